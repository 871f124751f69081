//===- RankExecutor.cpp - One rank's memory, kernels and programs -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Nothing here checks the plan: Artifact::open() has validated it, and every reference below relies
// on that.
//
//===------------------------------------------------------------------------===//
#include "runtime/executor/RankExecutor.h"

#include "runtime/artifact/PlanRecords.h"

#include <string>
#include <string_view>

namespace sluice {
Result<std::unique_ptr<RankExecutor>> RankExecutor::create(const Artifact &artifact, int rank,
                                                           int threads) {
  std::unique_ptr<RankExecutor> out(new RankExecutor(artifact, rank, threads));
  SLUICE_RETURN_IF_ERROR(out->allocateSlabs().at({.rank = rank}));
  out->bindIo();
  for (const proto::Bucket &bucket : out->plan.buckets())
    SLUICE_RETURN_IF_ERROR(out->prepare(bucket).at({.rank = rank}));
  return out;
}

RankExecutor::RankExecutor(const Artifact &artifact, int rank, int threads)
    : artifact(artifact), plan(artifact.plan().ranks(rank)), rank(rank), pool(threads) {}

Status RankExecutor::allocateSlabs() {
  for (const proto::Slab &slab : plan.slabs()) {
    if (slab.kind() == proto::Slab::WEIGHTS) {
      // The mapping is read only; the validator has refused every launch that would write to it.
      slabs.push_back(reinterpret_cast<std::byte *>(
          const_cast<uint8_t *>(artifact.weightsData(static_cast<size_t>(rank)).data())));
      bytes.weights = slab.bytes();
      continue;
    }
    const bool isKv = slab.kind() == proto::Slab::KV, isIo = slab.kind() == proto::Slab::IO;
    if (isIo)
      ioSlab = slabs.size();
    (isKv ? bytes.kv : isIo ? bytes.io : bytes.arena) = slab.bytes();
    SLUICE_ASSIGN_OR_RETURN(HostMemory block,
                            HostMemory::allocate(slab.bytes(), slab.alignment(),
                                                 isKv   ? "KV cache"
                                                 : isIo ? "step inputs and outputs"
                                                        : "activations of one step"));
    slabs.push_back(block.data());
    blocks.push_back(std::move(block));
  }
  return Status::ok();
}

void RankExecutor::bindIo() {
  stepIo.header = ioBuffer<abi::StepHeader>(abi::kIoHeader).data();
  stepIo.tokenIds = ioBuffer<int32_t>(abi::kIoTokenIds);
  stepIo.positions = ioBuffer<int32_t>(abi::kIoPositions);
  stepIo.tokenSeq = ioBuffer<int32_t>(abi::kIoTokenSeq);
  stepIo.seqStarts = ioBuffer<int32_t>(abi::kIoSeqStarts);
  stepIo.kvLengths = ioBuffer<int32_t>(abi::kIoKvLengths);
  stepIo.pageTable = ioBuffer<int32_t>(abi::kIoPageTable);
  stepIo.logitRows = ioBuffer<int32_t>(abi::kIoLogitRows);
  stepIo.sampling = ioBuffer<abi::SamplingRow>(abi::kIoSampling);
  stepIo.logits = ioBuffer<const float>(abi::kIoLogits);
  stepIo.sampledIds = ioBuffer<const int32_t>(abi::kIoSampledIds);
  stepIo.expertCounts = ioBuffer<const uint32_t>(abi::kIoExpertCounts);
}

template <typename T> std::span<T> RankExecutor::ioBuffer(std::string_view name) const {
  for (const proto::IoBuffer &buffer : plan.io())
    if (buffer.name() == name)
      return {reinterpret_cast<T *>(slabs[ioSlab] + buffer.offset()), buffer.bytes() / sizeof(T)};
  return {};
}

void *RankExecutor::address(const proto::BufferRef &ref) const {
  return ref.slab() == 0 ? nullptr : slabs[ref.slab() - 1] + ref.offset();
}

Status RankExecutor::prepare(const proto::Bucket &bucket) {
  const abi::StepDims dims = bucketDims(artifact.plan().limits(), bucket.tokens());
  std::vector<const host::HostKernel *> prepared(artifact.kernels().size());
  Program program;
  program.tokens = static_cast<int>(bucket.tokens());
  for (int i = 0; i < bucket.commands_size(); ++i) {
    const proto::Launch &launch = bucket.commands(i).launch();
    const host::HostKernel *&kernel = prepared[launch.kernel()];
    if (!kernel) {
      auto created = host::createHostKernel(artifact.kernels()[launch.kernel()], dims);
      if (!created.isOk())
        return created.status()
            .withContext(
                "kernel " +
                quoteName(artifact.plan().kernels(static_cast<int>(launch.kernel())).name()))
            .at({.planOp = i});
      kernel = created->get();
      kernels.push_back(std::move(*created));
    }
    program.launches.push_back({kernel, program.args.size()});
    for (const proto::BufferRef &ref : launch.args())
      program.args.push_back(address(ref));
  }
  programs.push_back(std::move(program));
  return Status::ok();
}

void RankExecutor::run(size_t bucket) {
  const Program &program = programs[bucket];
  for (size_t i = 0; i < program.launches.size(); ++i) {
    const Launch &launch = program.launches[i];
    launch.kernel->run(program.args.data() + launch.firstArg, pool);
    if (observer)
      report(bucket, i);
  }
}

void RankExecutor::report(size_t bucket, size_t index) const {
  const proto::Launch &launch =
      plan.buckets(static_cast<int>(bucket)).commands(static_cast<int>(index)).launch();
  const abi::FamilyParams &params = artifact.kernels()[launch.kernel()];
  const std::vector<abi::ArgSpec> &specs = abi::familyArgs(params);
  std::vector<ObservedArg> args;
  for (int i = 0; i < launch.args_size(); ++i)
    if (const proto::BufferRef &ref = launch.args(i); ref.slab() != 0)
      args.push_back({specs[static_cast<size_t>(i)].name,
                      {static_cast<const std::byte *>(address(ref)), ref.bytes()}});
  observer->launched({abi::familyName(params), launch.label(), *stepIo.header, args});
}

} // namespace sluice
