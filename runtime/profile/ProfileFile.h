//===- ProfileFile.h - Reading and writing profiles -------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Our own format is a safetensors file, so that any tool of the field opens it:
//   counts        F64 [windows, layers, experts]   tokens per expert
//   ids.<domain>  U16 [tokens, layers, top_k]      experts of every token, 65535 in a dense layer
//   __metadata__  format = "sluice-profile-1", model, top_k
// A safetensors file without that mark whose tensors are all [tokens, layers, top_k] of one integer
// type is a bare trace, one tensor per domain: the number of experts is the largest id plus one and
// every domain becomes a window. Read as well:
//   SGLang JSON           {"logical_count": [layers][experts] or [windows][layers][experts]}
//   SGLang recorder .pt   a torch archive with the tensor "logical_count", see TorchArchive.h
//   TensorRT-LLM          a folder with meta_info.json and *.safetensors whose tensors
//                         "{iteration}_{layer}" count tokens per expert; iterations become windows
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PROFILE_PROFILEFILE_H
#define SLUICE_RUNTIME_PROFILE_PROFILEFILE_H

#include "runtime/profile/Profile.h"

namespace sluice {

/// Reads a profile of any format above; a folder is TensorRT-LLM's, files are told apart by their
/// first bytes. The result has passed checkProfile. Errors: kNotFound, kIo, kDataCorrupt with the
/// place in the file, kUnsupported for a .pt that a newer recorder wrote in another way.
Result<Profile> readProfile(const std::string &path);

/// Parses SGLang's JSON; `name` opens errors.
Result<Profile> parseSglangProfile(std::string_view text, const std::string &name);

/// Reads a TensorRT-LLM folder.
Result<Profile> readTensorRtLlmProfile(const std::string &folder);

/// Writes our format; the file appears whole or not at all.
Status writeProfile(const Profile &profile, const std::string &path);

/// Writes `content` beside `path` and moves it there whole, so that a reader never sees half a
/// file.
Status writeFileAtomically(const std::string &path, std::string_view content);

} // namespace sluice

#endif // SLUICE_RUNTIME_PROFILE_PROFILEFILE_H
