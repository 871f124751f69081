//===- TorchArchive.h - Expert counts in files of torch.save ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// torch.save writes a zip archive with a pickle and one file per storage. A pickle is a program for
// a stack machine that can call anything; this reader is such a machine without calls: it builds
// numbers, strings, lists, tuples, dictionaries and tensors, and refuses every other opcode and
// every global that is not part of a tensor. Nothing is executed and nothing is imported. Formats:
// PKZIP APPNOTE 6.3.10 and CPython's Lib/pickletools.py.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PROFILE_TORCHARCHIVE_H
#define SLUICE_RUNTIME_PROFILE_TORCHARCHIVE_H

#include "runtime/profile/Profile.h"

#include <string_view>

namespace sluice {

/// Reads the tensor "logical_count", [layers, experts] or [windows, layers, experts], of the
/// dictionary in a torch archive, as SGLang's expert distribution recorder dumps it in its modes
/// "stat" and "stat_approx". `name` opens errors. kDataCorrupt for bytes that lie, kUnsupported for
/// what is understood and not read: compressed entries (torch.save stores), big-endian data, half
/// floats, and the recorder's per-token modes.
Result<Profile> parseTorchProfile(std::string_view bytes, const std::string &name);

} // namespace sluice

#endif // SLUICE_RUNTIME_PROFILE_TORCHARCHIVE_H
