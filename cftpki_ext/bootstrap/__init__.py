"""
The composition root: settings → stores, sources, checker, service.

The only importer of connectors, and with `stores` of cache.
"""
