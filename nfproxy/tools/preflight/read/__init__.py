"""
Thin readers: from the machine and the API server to facts. They judge nothing and change nothing.
"""
