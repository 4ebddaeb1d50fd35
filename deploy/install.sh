#!/usr/bin/env bash
# Makes this checkout's daemon a service of the user who runs this, and keeps it so: run it again after any change.
# Needs no root. Must never touch the data, nor a service that another checkout has installed.
set -euo pipefail

UNIT=unibus-membershipd.service
units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
dropin=$units/$UNIT.d/10-install.conf
checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
stamp=.venv/.deployed
changes=()

usage() {
	cat <<-END
		usage: deploy/install.sh [--no-sandbox]   install, or bring up to date what is installed
		       deploy/install.sh --uninstall      stop and remove the service; the data stays

		PYTHON names the python to build with; UNIBUS_URL (with UNIBUS_CA) where health is asked for,
		http://127.0.0.1:8470 unless told.
	END
}

fail() {
	printf 'install.sh: %s\n' "$@" >&2
	exit 1
}

user_systemctl() {
	systemctl --user --quiet --no-pager "$@"
}

property() {
	user_systemctl show --property="$1" --value "$UNIT"
}

check_host() {
	[ "$(id -u)" -ne 0 ] || fail "this is root: run it as the user who shall own the service, who needs no rights"
	command -v systemctl >/dev/null ||
		fail "there is no systemd on this machine: run .venv/bin/unibus-membershipd under the service manager that there is"
	[ -d /run/systemd/system ] ||
		fail "systemd is installed but does not run this machine (a container?): use make run, or a host that systemd runs"
	local version
	version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
	[ "${version:-0}" -ge 251 ] || fail "this is systemd ${version:-of an unknown version}: 251 or newer is needed"
	XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
	export XDG_RUNTIME_DIR
	user_systemctl show-environment >/dev/null 2>&1 ||
		fail "systemd has no session of $(id -un): log in as $(id -un) by ssh or on the console (su and sudo make none)," \
			"or have root run: loginctl enable-linger $(id -un)"
}

check_place() {
	case $checkout in
	*[\"\'\\:\$%]* | *$'\n'*) fail "a unit cannot name $checkout: move the checkout to a path without quotes and : \\ \$ %" ;;
	esac
	local linked
	linked=$(readlink -f -- "$units/$UNIT" || true)
	[ ! -e "$units/$UNIT" ] || [ "$linked" = "$checkout/deploy/$UNIT" ] ||
		fail "$UNIT is installed from $linked: remove that one first (install.sh --uninstall there)"
}

# An environment belongs to the place where it was made: one that was copied would run the code of the old place.
is_ours() {
	[ "$(.venv/bin/python -c 'import unibus; print(unibus.__path__[0])' 2>/dev/null)" = "$checkout/src/unibus" ]
}

build() {
	command -v make >/dev/null || fail "make is missing: install it"
	local python=${PYTHON:-python3}
	"$python" -c 'import ensurepip' 2>/dev/null ||
		fail "$python cannot make environments: install python 3.11 or newer with venv (python3-venv), or name one in PYTHON"
	[ ! -e .venv ] || is_ours || make --silent clean
	make --question .venv/.installed 2>/dev/null && return
	echo "building the environment"
	make --silent .venv/.installed PYTHON="$python" ||
		fail "the environment could not be built, see above; what was running is running still"
	changes+=("built the environment")
}

sandbox_works() {
	systemd-run --user --quiet --wait --property=PrivateUsers=yes --property=PrivateTmp=yes \
		--property=ProtectSystem=strict --property=RuntimeMaxSec=10 true 2>/dev/null
}

render_sandbox() {
	local python
	python=$(.venv/bin/python -c 'import os, sys; print(os.path.realpath(sys.base_prefix))')
	cat deploy/sandbox.conf
	printf 'TemporaryFileSystem="%s:ro"\n' "$checkout"
	printf 'BindReadOnlyPaths="%s"\n' "$checkout/.venv" "$checkout/src" "$checkout/deploy"
	case $python in /usr | /usr/*) ;; *) printf 'BindReadOnlyPaths="%s"\n' "$python" ;; esac
	printf 'BindPaths="%s"\n' "$checkout/local_files"
}

link() {
	local wanted=$1
	if [ "$wanted" != "$(cat -- "$dropin" 2>/dev/null)" ]; then
		mkdir -p -- "$(dirname -- "$dropin")"
		if [ -n "$wanted" ]; then printf '%s\n' "$wanted" >"$dropin"; else rm -f -- "$dropin"; fi
		changes+=("brought $dropin up to date")
	fi
	if ! user_systemctl is-enabled "$UNIT" 2>/dev/null; then
		user_systemctl enable "$checkout/deploy/$UNIT"
		changes+=("linked and enabled $UNIT")
	fi
	if [ ${#changes[@]} -gt 0 ] || [ "$(property NeedDaemonReload)" = yes ]; then user_systemctl daemon-reload; fi
}

# All that makes a difference to what runs: of two equal answers the second needs no restart.
fingerprint() {
	{
		find src deploy/"$UNIT" pyproject.toml requirements.lock -type f ! -path '*/__pycache__/*' -print0 |
			LC_ALL=C sort -z | xargs -0 sha256sum
		cat -- "$dropin" 2>/dev/null || true
	} | sha256sum
}

run() {
	local wanted
	wanted=$(fingerprint)
	user_systemctl is-active "$UNIT" && [ "$wanted" = "$(cat "$stamp" 2>/dev/null)" ] && return
	user_systemctl restart "$UNIT" || explain "the daemon does not start"
	printf '%s\n' "$wanted" >"$stamp"
	changes+=("started $UNIT")
}

wait_until_healthy() {
	local tries
	for tries in {1..30}; do
		.venv/bin/unibus health >/dev/null 2>&1 && return
		sleep 1
	done
	.venv/bin/unibus health >&2 || true
	explain "the daemon runs, but was not healthy in $tries tries"
}

explain() {
	fail "$1: $(property StatusText)" "systemd goes on trying; see systemctl --user status $UNIT, journalctl --user -u $UNIT"
}

report() {
	if [ ${#changes[@]} -eq 0 ]; then echo "nothing to change"; else printf '%s\n' "${changes[@]}"; fi
	cat <<-END

		unibus is running and healthy
		  where    $(property StatusText)
		  data     $checkout/local_files
		  sandbox  $1
	END
	if [ -e local_files/bootstrap-token ]; then
		printf '\nthis bus has no users yet. become its first admin:\n  cd %q && .venv/bin/unibus init YOUR-HANDLE\n' "$checkout"
	fi
	if [ "$(loginctl show-user "$(id -un)" --property=Linger --value 2>/dev/null || true)" != yes ]; then
		printf '\nit ends when you log out, and is back when you log in. to have it run always:\n  loginctl enable-linger\n'
	fi
}

install() {
	local sandbox=$1 settings=
	cd -- "$checkout"
	check_place
	build
	mkdir -p -m 0700 local_files
	if [ "$sandbox" = yes ] && ! sandbox_works; then
		sandbox="no: this host lets no user have namespaces, so the daemon can read what you can"
	fi
	[ "$sandbox" != yes ] || settings=$(render_sandbox)
	link "$settings"
	run
	wait_until_healthy
	report "$sandbox"
}

uninstall() {
	cd -- "$checkout"
	check_place
	[ ! -e "$units/$UNIT" ] || user_systemctl disable --now "$UNIT"
	rm -f -- "$dropin" "$stamp"
	rmdir -- "$(dirname -- "$dropin")" 2>/dev/null || true
	user_systemctl daemon-reload
	echo "$UNIT is gone; the data is still in $checkout/local_files"
}

case "$*" in
"")
	check_host
	install yes
	;;
--no-sandbox)
	check_host
	install "no: you did not want one"
	;;
--uninstall)
	check_host
	uninstall
	;;
-h | --help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
