//===- RankExecutor.cpp - One rank's memory, kernels and programs -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Nothing here checks the plan: Artifact::open() has validated it, and every reference below relies
// on that, up to the promise that all ranks of a collective come to it.
//
//===------------------------------------------------------------------------===//
#include "runtime/executor/RankExecutor.h"

#include "runtime/artifact/PlanRecords.h"

#include <algorithm>
#include <cstring>
#include <numeric>
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
    const char *what = isKv   ? "KV cache"
                       : isIo ? "step inputs and outputs"
                              : "activations of one step";
    SLUICE_ASSIGN_OR_RETURN(HostMemory block,
                            HostMemory::allocate(slab.bytes(), slab.alignment(), what));
    SLUICE_RETURN_IF_ERROR(block.populate(pool, what));
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
  stepIo.globalHeader = ioBuffer<abi::StepHeader>(abi::kIoGlobalHeader).data();
  stepIo.groupTokens = ioBuffer<int32_t>(abi::kIoGroupTokens);
  stepIo.groupLogitRows = ioBuffer<int32_t>(abi::kIoGroupLogitRows);
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
    const proto::Command &command = bucket.commands(i);
    if (command.has_launch()) {
      const proto::Launch &launch = command.launch();
      SLUICE_RETURN_IF_ERROR(
          prepareLaunch(launch, dims, prepared[launch.kernel()], program).at({.planOp = i}));
    } else {
      program.commands.push_back({nullptr, program.exchanges.size()});
      program.exchanges.push_back(prepareExchange(command.collective()));
    }
  }
  programs.push_back(std::move(program));
  return Status::ok();
}

Status RankExecutor::prepareLaunch(const proto::Launch &launch, const abi::StepDims &dims,
                                   const host::HostKernel *&kernel, Program &program) {
  if (!kernel) {
    auto created = host::createHostKernel(artifact.kernels()[launch.kernel()], dims);
    if (!created.isOk())
      return created.status().withContext(
          "kernel " + quoteName(artifact.plan().kernels(static_cast<int>(launch.kernel())).name()));
    kernel = created->get();
    kernels.push_back(std::move(*created));
  }
  program.commands.push_back({kernel, program.args.size()});
  for (const proto::BufferRef &ref : launch.args())
    program.args.push_back(address(ref));
  return Status::ok();
}

RankExecutor::Exchange RankExecutor::prepareExchange(const proto::Collective &record) const {
  Exchange out{};
  out.record = &record;
  out.source = static_cast<std::byte *>(address(record.source()));
  out.result = static_cast<std::byte *>(address(record.result()));
  out.counts = static_cast<const int32_t *>(address(record.counts()));
  const auto members = static_cast<size_t>(record.ranks_size());
  const uint64_t bytes = record.source().bytes();
  switch (record.kind()) {
  case proto::Collective::ALL_GATHER:
    out.unit = record.row_elements() * sizeof(float);
    out.parts.assign(members, bytes);
    break;
  case proto::Collective::REDUCE_SCATTER:
    out.unit = record.row_elements();
    out.parts.assign(members, bytes / sizeof(float) / members);
    break;
  case proto::Collective::ALL_TO_ALL:
    out.parts.assign(members, bytes / members);
    break;
  default:
    break;
  }
  out.root =
      static_cast<size_t>(std::find(record.ranks().begin(), record.ranks().end(), record.root()) -
                          record.ranks().begin());
  return out;
}

Status RankExecutor::connect(Communicator &communicator) {
  // Ordered by list, so that ranks which share several groups create them in the same order. The
  // sizes below are those that the validator has found equal on all members.
  std::map<std::vector<int>, uint64_t> maxBytes;
  auto listOf = [](const proto::Collective &record) {
    return std::vector<int>(record.ranks().begin(), record.ranks().end());
  };
  for (const proto::Bucket &bucket : plan.buckets()) {
    const abi::StepDims dims = bucketDims(artifact.plan().limits(), bucket.tokens());
    for (const proto::Command &command : bucket.commands()) {
      if (!command.has_collective())
        continue;
      const proto::Collective &record = command.collective();
      const bool ofTokens = address(record.counts()) == stepIo.groupTokens.data();
      const uint64_t rows = static_cast<uint64_t>(ofTokens ? dims.tokens : dims.logitRows);
      uint64_t &most = maxBytes[listOf(record)];
      most = std::max(most, record.counts().slab() != 0
                                ? rows * record.row_elements() * sizeof(float)
                                : std::max(record.source().bytes(), record.result().bytes()));
    }
  }
  for (const auto &[list, bytes] : maxBytes) {
    auto group = communicator.createGroup({.ranks = list, .maxBytes = bytes, .timeout = {}});
    if (!group.isOk())
      return group.status().at({.rank = rank});
    groups.emplace(list, std::move(*group));
  }
  for (Program &program : programs)
    for (Exchange &exchange : program.exchanges)
      exchange.group = groups.at(listOf(*exchange.record)).get();
  return Status::ok();
}

Status RankExecutor::run(size_t bucket) {
  Program &program = programs[bucket];
  for (size_t i = 0; i < program.commands.size(); ++i) {
    const Command &command = program.commands[i];
    if (!command.kernel) {
      if (Status status = runExchange(program.exchanges[command.first]); !status.isOk())
        return status.at({.rank = rank, .planOp = static_cast<int>(i)});
      continue;
    }
    command.kernel->run(program.args.data() + command.first, pool);
    if (observer)
      report(bucket, i);
  }
  return Status::ok();
}

Status RankExecutor::runExchange(Exchange &exchange) {
  const proto::Collective &record = *exchange.record;
  Group &group = *exchange.group;
  std::vector<uint64_t> &parts = exchange.parts;
  if (exchange.counts)
    for (size_t i = 0; i < parts.size(); ++i)
      parts[i] = static_cast<uint64_t>(exchange.counts[i]) * exchange.unit;
  const std::string &label = record.label();
  const uint64_t own = parts.empty() ? 0 : parts[group.index()],
                 all = std::accumulate(parts.begin(), parts.end(), uint64_t(0));
  const auto floats = [](std::byte *data) { return reinterpret_cast<float *>(data); };
  switch (record.kind()) {
  case proto::Collective::ALL_REDUCE: {
    const size_t count = record.source().bytes() / sizeof(float);
    return group.allReduceSum({floats(exchange.source), count}, {floats(exchange.result), count},
                              label);
  }
  case proto::Collective::REDUCE_SCATTER:
    return group.reduceScatterSum({floats(exchange.source), all}, parts,
                                  {floats(exchange.result), own}, label);
  case proto::Collective::ALL_GATHER:
    return group.allGather({exchange.source, own}, parts, {exchange.result, all}, label);
  case proto::Collective::ALL_TO_ALL:
    return group.allToAll({exchange.source, all}, parts, {exchange.result, all}, parts, label);
  case proto::Collective::BROADCAST: {
    const size_t bytes = record.source().bytes();
    if (group.index() == exchange.root && exchange.source != exchange.result)
      std::memcpy(exchange.result, exchange.source, bytes);
    return group.broadcast({exchange.result, bytes}, exchange.root, label);
  }
  default:
    return internalError("a collective of unknown kind has passed validation");
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
