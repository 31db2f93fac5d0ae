#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: tests/bench/run.sh [OPTION…]

Measures nfproxy beside a ruleset of one chain per service port, and prints tables. Installs what
is missing first, like tests/run.sh. Works in namespaces: nothing reaches the machine's own ruleset
or interfaces. Needs root, as nft may not send the baseline's large transactions from a user
namespace; --quick does without. Takes one to three minutes.

  tests/bench/run.sh                          the default sizes
  tests/bench/run.sh -o markdown              for a README; -o json for a program
  tests/bench/run.sh --baseline 44000x1       another size of the baseline; this takes minutes
  tests/bench/run.sh --quick                  tiny sizes, to see that it works
  tests/bench/run.sh --size 30000x10 --repeats 100
  tests/bench/run.sh daemon                   the whole daemon on an API server      (--help)
  tests/bench/run.sh scaling                  one endpoint more or fewer, slowest    (--help)
  tests/bench/run.sh repairs                  repairs after 46 kinds of foreign change (--help)
  tests/bench/run.sh mass                     everything changes: waits and memory   (--help)
  tests/bench/run.sh nodechange               the Node changes: waits and memory     (--help)
  tests/bench/run.sh peaks                    memory of the daemon meanwhile         (--help)
  tests/bench/run.sh affinity                 remembered clients, sticky Services    (--help)
  tests/bench/run.sh sets                     declared sizes, and counters           (--help)
  tests/bench/run.sh wide                     one Service with 10,000 frontends      (--help)
  tests/bench/run.sh churn                    120 changes a second, of many kinds     (--help)
  tests/bench/run.sh commands                 explain and services beside a daemon   (--help)
  tests/bench/run.sh insight                  explanations on a large node          (--help)
  tests/bench/run.sh conntrack                stale UDP flows among 200,000 connections (--help)
USAGE
}

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/prepare.sh
source "$HERE/../../deploy/prepare.sh"

module=bench
case " $* " in
    " affinity "* | " churn "* | " commands "* | " conntrack "* | " daemon "* | " insight "* | " mass "* | " nodechange "* | " peaks "* | " repairs "* | " scaling "* | " sets "* | " wide "*)
        module=bench.$1 && shift
        ;;
    *" -h "* | *" --help "*) usage && exit ;;
esac
lists=()
case $module in
    bench.churn | bench.commands | bench.daemon | bench.peaks | bench.repairs | bench.scaling) lists+=("$REPOSITORY/deploy/packages-test.txt") ;; # openssl
esac
prepare_packages "${lists[@]}"
prepare_venv
export PYTHONPATH=$REPOSITORY:$REPOSITORY/tests
export PATH=$VENV/bin:/usr/local/sbin:/usr/sbin:/sbin:$PATH
exec "$VENV/bin/python" -m "$module" "$@"
