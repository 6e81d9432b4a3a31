"""equivalence.html: what a verification found, as one page for people, which loads nothing and runs nothing.

Rules of this folder: everything is text made from a Report; nothing is computed here that the report does not hold.
"""
