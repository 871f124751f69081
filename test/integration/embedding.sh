#!/usr/bin/env bash
# Embeds Sluice as its users do: installs this build, moves the installed tree, builds the examples
# against it outside the source tree, and runs them on a compiled checkpoint.
#   embedding.sh SOURCE_DIR BUILD_DIR CMAKE [CMake arguments for the examples]
# Exit code 77 (skipped) when everything but the generation was tested, for want of a compiler.
set -euo pipefail
source=$1 build=$2 cmake=$3
shift 3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

"$cmake" --install "$build" --prefix "$work/installed" >"$work/log" || { cat "$work/log"; fail "install"; }
prefix=$work/moved
mv "$work/installed" "$prefix"

# What other machines read names nothing of this one.
if grep -rnE "\"/[^\"]|[ ;:]/(usr|lib|opt|home)|$source|$build|$work" "$prefix/lib/cmake"; then
  fail "absolute paths in the package files above"
fi

# Every header stands on its own, and the C interface is C99.
for header in "$prefix"/include/sluice/*.h; do
  "${CXX:-c++}" -std=c++20 -Wall -Wextra -Werror -fsyntax-only -I "$prefix/include" -x c++ "$header" ||
    fail "$header"
done
"${CC:-cc}" -std=c99 -pedantic -Wall -Wextra -Werror -fsyntax-only -x c "$prefix/include/sluice.h" ||
  fail "sluice.h"

cp -r "$source/examples/01-generate-cpp" "$source/examples/02-generate-c" "$work"
for example in 01-generate-cpp 02-generate-c; do
  { "$cmake" -S "$work/$example" -B "$work/$example/build" -DCMAKE_PREFIX_PATH="$prefix" \
      -DCMAKE_C_FLAGS="-Wall -Wextra -Werror" -DCMAKE_CXX_FLAGS="-Wall -Wextra -Werror" "$@" &&
    "$cmake" --build "$work/$example/build"; } >"$work/log" 2>&1 || { cat "$work/log"; fail "$example"; }
done
programs=("$work/01-generate-cpp/build/generate-cpp" "$work/02-generate-c/build/generate-c")

# Errors reach the program's user.
for program in "${programs[@]}"; do
  if "$program" "$work/none.sluice" "text" 2>"$work/log"; then
    fail "$program accepts an artifact that does not exist"
  fi
  grep -q "none.sluice" "$work/log" || { cat "$work/log"; fail "$program does not name the artifact"; }
done

if [ ! -x "$prefix/bin/sluice-compile" ]; then
  echo "SKIPPED: generation, because this build has no compiler to make an artifact with"
  exit 77
fi
prompt="The question of authority is " tokens=48
"$prefix/bin/sluice-compile" "$source/examples/moe-4m" -o "$work/moe-4m.sluice"
expected=$("$prefix/bin/sluice-run" "$work/moe-4m.sluice" --prompt "$prompt" --max-new-tokens $tokens --quiet)
[ ${#expected} -gt 40 ] || fail "sluice-run generated only \"$expected\""
for program in "${programs[@]}"; do
  text=$("$program" "$work/moe-4m.sluice" "$prompt" $tokens 2>"$work/log") || { cat "$work/log"; fail "$program"; }
  [ "$text" = "$expected" ] || fail "$program generated \"$text\", sluice-run \"$expected\""
  grep -q "tokens/s" "$work/log" || { cat "$work/log"; fail "$program prints no speed"; }
  if "$program" "$work/moe-4m.sluice" "" 2>"$work/log"; then
    fail "$program accepts an empty prompt"
  fi
  grep -q "prompt" "$work/log" || { cat "$work/log"; fail "$program does not explain the empty prompt"; }
done
echo "both examples: $expected"
