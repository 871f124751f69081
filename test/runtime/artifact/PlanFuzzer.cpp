//===- PlanFuzzer.cpp - Fuzz target of plans and file lists -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The input is plan.pb of an artifact whose weights are those of a tiny test model, and also a
// SHA256SUMS. A plan that validates is checked once more, independently of the validator's own
// bookkeeping: every argument must lie in its slab and hold what its kernel needs.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Manifest.h"
#include "runtime/artifact/PlanRecords.h"
#include "runtime/artifact/PlanValidator.h"
#include "test/runtime/artifact/ArtifactBuilder.h"

#include <cstdlib>
#include <filesystem>
#include <stdlib.h>
#include <vector>

using namespace sluice;

/// The weights files of a tiny model of `ranks` ranks, whose headers plans are checked against.
static std::vector<SafetensorsFile> openWeights(int ranks) {
  std::string root = (std::filesystem::temp_directory_path() / "sluice-fuzz-XXXXXX").string();
  if (!::mkdtemp(root.data()) ||
      !test::writeArtifact(root + "/tiny",
                           test::makeTinyModel({.expertWidth = 16 * ranks, .ranks = ranks}))
           .isOk())
    std::abort();
  std::vector<SafetensorsFile> files;
  for (int rank = 0; rank < ranks; ++rank) {
    auto opened = SafetensorsFile::open(root + "/tiny/" + weightsFileName(size_t(rank)));
    files.push_back(std::move(*opened));
  }
  std::filesystem::remove_all(root);
  return files;
}

static void require(bool holds) {
  if (!holds)
    std::abort();
}

static void checkCollective(const proto::RankProgram &rank, const proto::Collective &exchange) {
  for (const proto::BufferRef *ref : {&exchange.source(), &exchange.result()}) {
    const proto::Slab &slab = rank.slabs(int(ref->slab()) - 1);
    require(ref->offset() <= slab.bytes() && ref->bytes() <= slab.bytes() - ref->offset());
    require(ref == &exchange.source() || slab.kind() != proto::Slab::WEIGHTS);
  }
  require(exchange.source().bytes() % sizeof(float) == 0 || exchange.row_elements() > 0);
}

static void checkProgram(const proto::Plan &plan, const proto::RankProgram &rank,
                         const proto::Bucket &bucket,
                         const std::vector<abi::FamilyParams> &kernels) {
  for (const proto::Command &command : bucket.commands()) {
    if (command.has_collective()) {
      checkCollective(rank, command.collective());
      continue;
    }
    const proto::Launch &launch = command.launch();
    const abi::FamilyParams &params = kernels.at(launch.kernel());
    auto bytes = abi::familyArgBytes(params, bucketDims(plan.limits(), bucket.tokens()));
    require(bytes.isOk() && bytes->size() == size_t(launch.args_size()));
    for (int i = 0; i < launch.args_size(); ++i) {
      const proto::BufferRef &ref = launch.args(i);
      const uint64_t needed = (*bytes)[size_t(i)];
      require((ref.slab() == 0) == (needed == 0));
      if (needed == 0)
        continue;
      const proto::Slab &slab = rank.slabs(int(ref.slab()) - 1);
      require(ref.bytes() >= needed && ref.offset() <= slab.bytes() &&
              needed <= slab.bytes() - ref.offset());
      require(slab.kind() != proto::Slab::WEIGHTS ||
              abi::familyArgs(params)[size_t(i)].access == abi::ArgAccess::kRead);
    }
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  auto manifest = Manifest::parse({reinterpret_cast<const char *>(data), size});
  if (manifest.isOk())
    require(manifest->text() == std::string_view(reinterpret_cast<const char *>(data), size));

  auto plan = parsePlan({data, size});
  if (!plan.isOk())
    return 0;
  static const std::vector<SafetensorsFile> one = openWeights(1), two = openWeights(2);
  std::vector<WeightsFacts> facts;
  for (const SafetensorsFile &file : plan->ranks_size() == 2 ? two : one)
    facts.push_back({file.fileSize(), &file.header()});
  auto kernels = validatePlan(*plan, facts);
  if (!kernels.isOk())
    return 0;
  for (const proto::RankProgram &rank : plan->ranks())
    for (const proto::Bucket &bucket : rank.buckets())
      checkProgram(*plan, rank, bucket, *kernels);
  return 0;
}
