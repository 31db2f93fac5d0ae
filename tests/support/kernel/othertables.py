"""Tables that may be there before nfproxy's, as nft's text."""

from __future__ import annotations

#: A table of an older nfproxy.
OLDER = """
table ip nfproxy {
    map frontends {
        typeof ip daddr . meta l4proto . th dport : verdict
        counter
    }
    chain services {
    }
    chain leftover {
        type nat hook prerouting priority -100; policy accept;
        ip daddr vmap { 10.96.0.1 : drop }
    }
}
"""


#: Tables whose sets are laid out otherwise.
OTHER_LAYOUT = """
table ip nfproxy {
    map frontends {
        typeof ip daddr : verdict
        elements = { 10.96.0.1 : drop }
    }
    set cluster-ips {
        typeof tcp dport
        elements = { 80 }
    }
}
table ip6 nfproxy {
    map frontends {
        typeof ip6 daddr : verdict
        elements = { fd00::1 : drop }
    }
}
"""


#: Changes of a stranger to our own tables.
FOREIGN = """
add chain ip nfproxy strange
add rule ip nfproxy strange accept
add set ip nfproxy strangers { typeof ip saddr; }
add element ip nfproxy cluster-ips { 192.0.2.77 }
add element ip nfproxy frontends { 192.0.2.77 . tcp . 80 : goto strange }
flush chain ip nfproxy services
add rule ip6 nfproxy nat-prerouting accept
"""
