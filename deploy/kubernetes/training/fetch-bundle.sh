#!/bin/sh
# Put the bundle that $SOURCE/CURRENT names at $BUNDLES/current: once, or forever, every $EVERY_S seconds.
#
# CURRENT is written last, so that what it names is whole. A bundle is copied beside the one that serves and comes into
# place by the rename of a link, so that there is no moment without one. The one before it stays, for those who read it.
set -eu
BUNDLES=${BUNDLES:-/bundles}
current=$BUNDLES/current

fetch() {
    version=$(rclone cat "$SOURCE/CURRENT" 2>/dev/null | tr -d '[:space:]')
    case $version in
    '' | .* | *[!A-Za-z0-9._-]*)
        echo "error: $SOURCE/CURRENT: found '$version'; expected the name of a folder beside it" >&2
        return 1
        ;;
    esac
    serving=$(readlink "$current" || true)
    [ "$version" != "$serving" ] || return 0
    rm -rf "$BUNDLES/.new"
    rclone copy --quiet "$SOURCE/$version" "$BUNDLES/.new" || return 1
    if [ ! -f "$BUNDLES/.new/manifest.json" ]; then
        echo "error: $SOURCE/$version: found no manifest.json; expected a bundle" >&2
        return 1
    fi
    rm -rf "${BUNDLES:?}/$version"
    mv "$BUNDLES/.new" "$BUNDLES/$version"
    ln -sfn "$version" "$BUNDLES/.link"
    mv -fT "$BUNDLES/.link" "$current"
    for old in "$BUNDLES"/*; do
        case ${old##*/} in current | "$version" | "$serving") ;; *) rm -rf "$old" ;; esac
    done
    echo "bundle $version serves"
}

case ${1:-} in
once) fetch ;;
forever)
    # A storage that is away leaves what serves.
    while sleep "${EVERY_S:-30}"; do fetch || true; done
    ;;
*)
    echo "error: found '${1:-}'; expected once or forever" >&2
    exit 2
    ;;
esac
