//===- EmbeddedTargets.h - Target descriptions of this build ------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The files of data/, embedded by the build so that no program has to find them.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_TARGET_EMBEDDEDTARGETS_H
#define SLUICE_COMPILER_TARGET_EMBEDDEDTARGETS_H

#include <span>
#include <string_view>
#include <utility>

namespace sluice {

/// (name, JSON text) of every target, in the order of compiler/target/CMakeLists.txt.
std::span<const std::pair<std::string_view, std::string_view>> embeddedTargets();

} // namespace sluice

#endif // SLUICE_COMPILER_TARGET_EMBEDDEDTARGETS_H
