"""Stand-ins for other packages: change the import line, keep the rest. See docs/migrate.md.

Importing one costs nothing; the network is loaded when the first face is read.
"""
