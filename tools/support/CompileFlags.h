//===- CompileFlags.h - Flags that say what a model is compiled to ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// What sluice-compile decides and sluice-plan predicts comes from the same options; these flags are
// bound to them in one place, so that a command line of one program means the same to the other.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TOOLS_SUPPORT_COMPILEFLAGS_H
#define SLUICE_TOOLS_SUPPORT_COMPILEFLAGS_H

#include "compiler/driver/Compile.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

/// The group "Limits". `options` must outlive the parsing, here and below.
void addLimits(CLI::App &app, CompileOptions &options);

/// Formats of weights and caches, placement, buckets and where weights come from.
void addModelFlags(CLI::App &group, CompileOptions &options);

} // namespace sluice::cli

#endif // SLUICE_TOOLS_SUPPORT_COMPILEFLAGS_H
