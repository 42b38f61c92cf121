#!/usr/bin/env bash
# What the report's surfaces need of OGL (Unlicense), as one file: viscera/study/report/templates/ogl.js
# Needs npm; the versions are pinned, so that the same file comes out.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts ogl@1.0.11 esbuild@0.28.2
cat > entry.js <<'END'
export { Renderer } from "ogl/src/core/Renderer.js";
export { Camera } from "ogl/src/core/Camera.js";
export { Transform } from "ogl/src/core/Transform.js";
export { Geometry } from "ogl/src/core/Geometry.js";
export { Program } from "ogl/src/core/Program.js";
export { Mesh } from "ogl/src/core/Mesh.js";
END
npx esbuild entry.js --bundle --minify --format=iife --global-name=OGL --target=es2020 --legal-comments=none --outfile=ogl.js
{
  echo "/* OGL 1.0.11, https://github.com/oframe/ogl, Renderer to Mesh alone, by scripts/bundle_ogl.sh."
  sed -n '/^## Unlicense/,$p' node_modules/ogl/README.md | sed '1d; s/^/   /; s/[[:space:]]*$//'
  echo "*/"
  cat ogl.js
} > "$root/viscera/study/report/templates/ogl.js"
