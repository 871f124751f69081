//===- PlanRecords.cpp - Between plan.pb and the types of the program -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The version is read from the first bytes of the file before anything else is believed: a newer
// major version may have given other fields a new meaning, and "update Sluice" is the message a
// user can act on, not "field 4 is malformed".
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/PlanRecords.h"

#include "runtime/artifact/StepAbi.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>

namespace sluice {
namespace {

constexpr uint64_t kMaxPlanBytes = uint64_t(256) << 20;
constexpr int kMaxPlanDepth = 16; ///< the schema nests five deep

using google::protobuf::io::CodedInputStream;

/// Reads `major` and `minor`, the first two fields, which the writer emits first.
std::pair<uint32_t, uint32_t> readVersion(std::span<const uint8_t> bytes) {
  constexpr uint32_t kMajorTag = 1 << 3, kMinorTag = 2 << 3; // varint fields 1 and 2
  CodedInputStream in(bytes.data(), static_cast<int>(bytes.size()));
  uint32_t version[2] = {0, 0};
  for (uint32_t tag = in.ReadTag(); tag == kMajorTag || tag == kMinorTag; tag = in.ReadTag())
    if (!in.ReadVarint32(&version[tag == kMinorTag]))
      break;
  return {version[0], version[1]};
}

} // namespace

Result<proto::Plan> parsePlan(std::span<const uint8_t> bytes) {
  if (bytes.size() > kMaxPlanBytes)
    return resourceExhausted("plan.pb has " + std::to_string(bytes.size()) +
                             " bytes; plans are at most 268435456 bytes");
  auto [major, minor] = readVersion(bytes);
  if (major > kPlanMajor)
    return Status(StatusCode::kVersionMismatch,
                  "plan version " + std::to_string(major) + "." + std::to_string(minor) +
                      " is newer than this runtime's " + std::to_string(kPlanMajor) +
                      ".x; update Sluice or recompile the checkpoint");
  if (major == 0)
    return dataCorrupt("plan.pb does not begin with a version; it is no plan or is damaged");

  CodedInputStream in(bytes.data(), static_cast<int>(bytes.size()));
  in.SetTotalBytesLimit(static_cast<int>(kMaxPlanBytes));
  in.SetRecursionLimit(kMaxPlanDepth);
  proto::Plan plan;
  if (!plan.ParseFromCodedStream(&in) || !in.ConsumedEntireMessage())
    return dataCorrupt("plan.pb is not a well-formed protobuf message of a plan");
  return plan;
}

Result<std::string> serializePlan(const proto::Plan &plan) {
  std::string out;
  {
    google::protobuf::io::StringOutputStream stream(&out);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    if (!plan.SerializeToCodedStream(&coded))
      return internalError("the plan cannot be encoded");
  }
  if (out.size() > kMaxPlanBytes)
    return resourceExhausted("the plan needs " + std::to_string(out.size()) +
                             " bytes; plans are at most 268435456 bytes; use fewer buckets");
  return out;
}

proto::Kernel makeKernel(std::string name, const abi::FamilyParams &params) {
  proto::Kernel out;
  out.set_name(std::move(name));
  out.set_family(abi::familyName(params));
  for (auto &[key, value] : abi::toParams(params)) {
    proto::Param *param = out.add_params();
    param->set_name(key);
    if (const auto *i = std::get_if<int64_t>(&value))
      param->set_i(*i);
    else if (const auto *f = std::get_if<double>(&value))
      param->set_f(*f);
    else
      param->set_s(std::get<std::string>(value));
  }
  return out;
}

Result<abi::FamilyParams> kernelParams(const proto::Kernel &kernel) {
  abi::Params params;
  params.reserve(static_cast<size_t>(kernel.params_size()));
  for (const proto::Param &param : kernel.params()) {
    switch (param.value_case()) {
    case proto::Param::kI:
      params.emplace_back(param.name(), int64_t{param.i()});
      break;
    case proto::Param::kF:
      params.emplace_back(param.name(), param.f());
      break;
    case proto::Param::kS:
      params.emplace_back(param.name(), param.s());
      break;
    case proto::Param::VALUE_NOT_SET:
      return dataCorrupt("parameter \"" + param.name() + "\" has no value");
    }
  }
  return abi::fromParams(kernel.family(), params);
}

abi::StepDims bucketDims(const proto::Limits &limits, uint32_t tokens) {
  abi::StepDims dims;
  dims.tokens = tokens;
  dims.seqs = std::min(limits.max_seqs(), tokens);
  dims.logitRows = std::min(limits.max_logit_rows(), tokens);
  dims.pagesPerSeq = static_cast<int64_t>(pagesPerSequence(limits));
  dims.pageSize = limits.page_size();
  dims.numPages = limits.num_pages();
  return dims;
}

uint64_t pagesPerSequence(const proto::Limits &limits) {
  uint64_t size = std::max<uint64_t>(limits.page_size(), 1);
  return (limits.max_seq_len() + size - 1) / size;
}

Result<std::vector<std::pair<const char *, uint64_t>>>
ioBufferBytes(const proto::Limits &limits, uint32_t vocabSize, uint32_t dpGroups) {
  // Products of two 32-bit counts and a small factor fit 64 bits after the checks.
  const uint64_t tokens = limits.max_batch_tokens(), seqs = limits.max_seqs(),
                 rows = limits.max_logit_rows(), pages = pagesPerSequence(limits);
  uint64_t table = 0, logits = 0;
  if (__builtin_mul_overflow(4 * seqs, pages, &table) ||
      __builtin_mul_overflow(4 * rows, uint64_t(vocabSize), &logits) ||
      std::max(table, logits) > uint64_t(1) << 62)
    return resourceExhausted("the page table or the logits of one step exceed 2^62 bytes; lower "
                             "max_seqs, max_seq_len or max_logit_rows");
  std::vector<std::pair<const char *, uint64_t>> buffers = {
      {abi::kIoHeader, sizeof(abi::StepHeader)},
      {abi::kIoTokenIds, 4 * tokens},
      {abi::kIoPositions, 4 * tokens},
      {abi::kIoTokenSeq, 4 * tokens},
      {abi::kIoSeqStarts, 4 * (seqs + 1)},
      {abi::kIoKvLengths, 4 * seqs},
      {abi::kIoPageTable, table},
      {abi::kIoLogitRows, 4 * rows},
      {abi::kIoSampling, sizeof(abi::SamplingRow) * rows},
      {abi::kIoLogits, logits},
      {abi::kIoSampledIds, 4 * rows},
  };
  if (dpGroups > 1)
    buffers.insert(buffers.end(), {{abi::kIoGlobalHeader, sizeof(abi::StepHeader)},
                                   {abi::kIoGroupTokens, 4 * uint64_t(dpGroups)},
                                   {abi::kIoGroupLogitRows, 4 * uint64_t(dpGroups)}});
  return buffers;
}

} // namespace sluice
