#!/bin/sh
# Copy a bundle to $SOURCE under the time it was published, then name it in $SOURCE/CURRENT. To go back to an earlier one:
#   echo NAME | rclone rcat "$SOURCE/CURRENT"
set -eu
bundle=$1
if [ ! -f "$bundle/manifest.json" ]; then
    echo "error: $bundle: found no manifest.json; expected a bundle" >&2
    exit 1
fi
version=$(date -u +%Y%m%dT%H%M%SZ)
rclone copy --quiet "$bundle" "$SOURCE/$version"
rclone check --quiet --one-way "$bundle" "$SOURCE/$version"
echo "$version" | rclone rcat "$SOURCE/CURRENT"
echo "bundle $version published"
