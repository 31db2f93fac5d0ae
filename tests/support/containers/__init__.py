"""
Containers without a container engine: kubelet's part, crun's part, and the image of this tree.

    image        the unpacked image of deploy/Dockerfile
    pods         a pod of the DaemonSet, as kubelet starts it
    spec         the OCI configuration of its container
    runtime      crun runs it in a namespace of the lab
    volumes, seccomp, cgroups
    restrictions what a container takes from a process, without a container
"""
