"""
Why a Service does or does not work: the answer as values, from objects, kernel and connections.

Everything here computes; readers of the node are elsewhere. From below: ``diagnosis`` (what is
wrong, with its code), ``question`` (what was asked about), ``explanation`` (the answer: the JSON of
``nfproxy explain``), ``sight`` (what the engine may look at), ``endpointrows``, ``endpointcauses``,
``frontendrows``, ``serviceends`` and ``nodecauses`` (a Service port's parts, and what is wrong with
them),
``serviceview`` (a Service as a whole), ``whose`` (whose an address is), ``explain`` (the engine),
``fleet`` (on every node), ``overview`` (all Services, a row each), ``nodeobjects`` (what a daemon
gives commands on its node).

On a node: ``nodefacts`` is what readers fill in. ``kernelcauses`` (tables and daemon),
``waycauses`` (routes, bridges, sizes), ``foreigncauses`` (rules of others, named in ``rulewords``)
and ``flowcauses`` (connections, counters; ``porttraffic`` are those of a port) say what is wrong,
and ``onnode`` joins all that with an explanation. Without objects ``kernelalone`` makes one.

What happens to one packet, by the rules alone: ``packet`` (it, the node, the outcomes),
``expressions`` (what a rule reads), ``statements`` (what a rule does), ``ruletext`` and
``tabletext`` (from text to them), ``evaluate`` (the way through hooks and chains). For one client:
``clientidentity`` (who it is), ``desiredtables`` (the part of the tables that its packets meet),
``clientsteps`` (their way in words), ``client`` (all of it in an explanation).

What a running nfproxy says about itself: ``daemonstatus``, and of its node: ``nodestatus``.
"""
