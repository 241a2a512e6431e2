"""
From plain data to the blocks of a page, one module for each page. Pure.
"""
