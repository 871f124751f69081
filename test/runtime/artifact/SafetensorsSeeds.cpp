//===- SafetensorsSeeds.cpp - Seed corpus of the safetensors fuzz target ----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// usage: sluice_safetensors_seeds DIRECTORY
// Writes small files from which the fuzzer starts: valid ones of both layouts (compact as
// checkpoints are, padded as ours are) and one for each kind of lie, so that mutations begin behind
// the JSON parser instead of in it.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Safetensors.h"

#include <cstdio>

using namespace sluice;

static Status writeCompact(const std::string &path, const std::string &header, size_t dataBytes) {
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  bytes[1] = static_cast<char>(header.size() >> 8);
  return writeFile(path, bytes + header + std::string(dataBytes, '\1'));
}

static Status writePadded(const std::string &path) {
  SafetensorsWriter writer;
  SLUICE_RETURN_IF_ERROR(writer.declare("a", DataType::kBF16, {2, 2}).status());
  SLUICE_RETURN_IF_ERROR(writer.declare("b", DataType::kF8E4M3, {3}).status());
  SLUICE_ASSIGN_OR_RETURN(OutputFile out, OutputFile::create(path));
  SLUICE_RETURN_IF_ERROR(writer.begin(std::move(out)));
  SLUICE_RETURN_IF_ERROR(writer.append("a", std::vector<uint8_t>(8)));
  SLUICE_RETURN_IF_ERROR(writer.append("b", std::vector<uint8_t>(3)));
  return writer.finish().status();
}

static Status writeSeeds(const std::string &directory) {
  struct Seed {
    const char *name, *header;
    size_t dataBytes;
  };
  for (
      const Seed &seed : {
          Seed{"empty", "{}", 0},
          Seed{"metadata", R"({"__metadata__":{"format":"pt"}})", 0},
          Seed{"scalar", R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}} )", 4},
          Seed{
              "two",
              R"({"b":{"dtype":"F4","shape":[4,2],"data_offsets":[6,10]},"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}})",
              10},
          Seed{"zero", R"({"z":{"dtype":"I64","shape":[0,9],"data_offsets":[0,0]}})", 0},
          Seed{
              "overlap",
              R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
              6},
          Seed{"overflow",
               R"({"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8},
      })
    SLUICE_RETURN_IF_ERROR(writeCompact(directory + "/" + seed.name, seed.header, seed.dataBytes));
  return writePadded(directory + "/padded");
}

int main(int argc, char **argv) {
  Status status = argc == 2 ? writeSeeds(argv[1]) : invalidArgument("expected one directory");
  if (status.isOk())
    return 0;
  std::fprintf(stderr, "%s: %s\n", argv[0], status.toString().c_str());
  return 1;
}
