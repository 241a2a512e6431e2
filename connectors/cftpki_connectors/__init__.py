"""
Driven adapters, network: status sources and enrollers. They see ports and values, never the engine.
"""
