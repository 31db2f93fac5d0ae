"""
Between nfproxy and the kernel: transactions go in, tables, notifications and errors come out.

``kernel`` is what the reconciler uses: elements go by netlink, the program (chains and rules) as
text by ``libnftables``, in a child process (``libnftables_child``). ``notifications`` reports other
processes' changes (from sockets of ``announcements``) and ``deletions`` what our own elements had
counted, ``strangers`` removes what others leave,
``conntrack_cleaner`` deletes stale flows, which ``conntrack_listing`` lists, ``program`` reads
tables for a comparison, and ``probes`` says which features the kernel lacks. ``rulelisting`` has
rules as nft prints them. For a question about one Service, ``heldreader`` reads its elements,
``connectionreader`` its connections. ``foreignreader`` follows packets (``samplepackets``, chosen
by ``nodesamples``) through chains of other programs (``foreignwalk``), with rules of nf_tables
(``foreignrules``, ``foreignsteps``) and of iptables-legacy (``legacyrules``); parts that both have
are in ``xtparts``. ``lookups`` finds single elements, ``ourtables`` says which of nfproxy's tables
are in force, ``otherproxy`` what kube-proxy left, and ``nodereading`` puts all of that together.
Nothing here decides what the tables should hold.
"""
