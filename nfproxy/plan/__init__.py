"""
From objects and the node's configuration to the desired state.

    planner     changed objects in, changed parts of the desired state out: start here
    service     one Service: its frontends, by traffic policy
    endpoints   which endpoints serve a service port: readiness, termination, topology hints
    portslices  which of a Service's slices have a port
    affinity    session affinity of one service port
    limits      the most that one Service may have
    desired     all Services together: who gets a frontend that two ask for
    concerned   which Services another configuration of the node concerns
    contests    frontends that several Services ask for
    sizes       how much there is of the desired state
    claims, shadows        what is wrong with what Services ask for
    frontends   the values all of these work with
    frontendnames          what frontends are called in the kernel
    flows, servicehealth   stale flows; health check node ports
    localnodeports         node ports on loopback addresses
    serviceranges          ServiceCIDRs that hold nodes or pods

Everything here computes: no I/O, no clock, no kernel. The rules are kube-proxy's (nftables mode,
Kubernetes 1.36) unless a docstring says otherwise.
"""
