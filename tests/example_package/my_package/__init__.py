"""A package of your own: one file for each kind of thing that the suite can be taught.

None of these files is imported by the suite until a settings file names it, such as
`optimizer: my_package.lion`; Python must find the package (installed, or on PYTHONPATH).
"""
