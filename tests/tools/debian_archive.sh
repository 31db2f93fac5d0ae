# Sourced by scripts that fetch Debian packages: how this machine gets them.
#
# Environment:
#   NFPROXY_TEST_MIRROR  the Debian mirror   (default: the machine's own, from its apt sources)
# shellcheck shell=bash

# Debian's keys, also on Ubuntu: package debian-archive-keyring.
# shellcheck disable=SC2034 # used by those who source this
DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# Of the machine's own apt sources, print the first whose URL matches a pattern; nothing if none.
own_apt_source() {
    # shellcheck disable=SC2016 # apt-get fills in the name
    apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null |
        { grep -- "$1" || true; } | sort -u | sed -n 1p
}

# Print the URL of the Debian mirror to use, nothing where none is known.
debian_mirror() {
    printf '%s\n' "${NFPROXY_TEST_MIRROR:-$(own_apt_source '/debian/*$')}"
}

# Print apt sources for a Debian suite: with its updates and security updates, where the machine
# knows where to get these. Fails where no mirror is known.
debian_sources() {
    local suite=$1 mirror security options
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || return 1
    options="[signed-by=$DEBIAN_KEYRING]"
    printf 'deb %s %s main\n' "$options $mirror" "$suite" "$options $mirror" "$suite-updates"
    security=$(own_apt_source '/debian-security/*$')
    [ -z "$security" ] || printf 'deb %s %s main\n' "$options $security" "$suite-security"
}

# Print what the machine's apt.conf says about getting packages (proxies, time-outs), as one.
# Lists past their date will do (a mirror may be frozen); their signatures are checked.
own_apt_settings() {
    apt-config dump --format '%f "%v";%n' |
        grep -E '^Acquire::(https?|ftp|Retries|ForceIPv[46]|Check-Date)\b' | grep -v '""' || true
    printf 'Acquire::Check-Valid-Until "false";\nAcquire::Retries "3";\n'
}
