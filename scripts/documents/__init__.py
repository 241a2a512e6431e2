"""
What documents are made of and held to: commands and keys as the program has them, links, pictures, the site.

Not shipped: `scripts/` has the programs that use it, and `make docs` and `make check` call them.
"""
