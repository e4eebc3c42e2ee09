#!/bin/sh
# usage: install-uv.sh VERSION HASH...
# Put uv from PyPI into a directory of its own, if the download has one of the SHA-256 hashes, and make it the host's uv.
set -eu
umask 022
version=$1
shift
target=/usr/local/lib/uv-$version

work=$(mktemp -d)
trap 'rm -rf "$work" "$target.new"' EXIT

# pip runs from the wheel that python3-venv puts into venvs: Debian's own Python is not touched.
for wheel in /usr/share/python-wheels/pip-*.whl; do
    pip=$wheel/pip
done
{
    printf 'uv==%s' "$version"
    printf ' --hash=sha256:%s' "$@"
} >"$work/requirements.txt"
rm -rf "$target.new"
python3 "$pip" --disable-pip-version-check install --quiet --root-user-action=ignore --require-hashes --no-deps \
    --only-binary=:all: --target "$target.new" --requirement "$work/requirements.txt"

# The directory comes last: as long as it is missing, the next run installs again.
"$target.new/bin/uv" --version
ln -sf "$target/bin/uv" "$target/bin/uvx" /usr/local/bin/
mv -T "$target.new" "$target"
for other in /usr/local/lib/uv-[0-9]*; do
    [ "$other" = "$target" ] || rm -rf "$other"
done
