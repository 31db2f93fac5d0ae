"""
The rows of the table of settings; :mod:`nfproxy.config.settings` puts them together.
"""
