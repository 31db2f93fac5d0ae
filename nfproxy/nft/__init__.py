"""
The tables that nfproxy makes: their sets and maps, their chains, and the nft text for both.

    schema    sets and maps: the layout of keys and values, verdicts
    chains    chains as values, and their names
    ruleset   templates (``rulesets/``) to nft text
    stages    the tables of a change of layout, one after the other
    endpointnumbers   endpoints as numbers, for the rules of session affinity

Everything here computes; nothing opens a socket.
"""
