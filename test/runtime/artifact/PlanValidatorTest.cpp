//===- PlanValidatorTest.cpp - Hostile plans are refused --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A table of mutations of one valid plan, each with what its refusal must say: the place, the value
// and the limit.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/PlanValidator.h"

#include "runtime/artifact/PlanRecords.h"
#include "runtime/artifact/StepAbi.h"
#include "test/runtime/artifact/ArtifactBuilder.h"
#include "test/runtime/base/TempDir.h"

#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <memory>

namespace sluice {
namespace {

using testing::HasSubstr;

struct Mutation {
  const char *name;
  std::function<void(proto::Plan &)> apply;
  const char *message; ///< part of the error
};

proto::RankProgram &rank(proto::Plan &plan) { return *plan.mutable_ranks(0); }
proto::Bucket &bucket(proto::Plan &plan, int index = 0) {
  return *rank(plan).mutable_buckets(index);
}
/// The first launch of that label in bucket 0.
proto::Launch &launch(proto::Plan &plan, const std::string &label) {
  for (proto::Command &command : *bucket(plan).mutable_commands())
    if (command.has_launch() && command.launch().label() == label)
      return *command.mutable_launch();
  ADD_FAILURE() << "no launch " << label;
  return *bucket(plan).mutable_commands(0)->mutable_launch();
}
proto::BufferRef &arg(proto::Plan &plan, const std::string &label, int index) {
  return *launch(plan, label).mutable_args(index);
}
/// The first collective of that label in bucket 0 of a rank.
proto::Collective &exchange(proto::Plan &plan, const std::string &label, int rank = 0) {
  proto::Bucket &first = *plan.mutable_ranks(rank)->mutable_buckets(0);
  for (proto::Command &command : *first.mutable_commands())
    if (command.has_collective() && command.collective().label() == label)
      return *command.mutable_collective();
  ADD_FAILURE() << "no collective " << label;
  return *first.mutable_commands(0)->mutable_collective();
}
proto::Parallelism &parallelism(proto::Plan &plan) { return *plan.mutable_parallelism(); }
proto::IoBuffer &io(proto::Plan &plan, const std::string &name) {
  for (proto::IoBuffer &buffer : *rank(plan).mutable_io())
    if (buffer.name() == name)
      return buffer;
  ADD_FAILURE() << "no io buffer " << name;
  return *rank(plan).mutable_io(0);
}
proto::Param &param(proto::Plan &plan, const std::string &kernel, const std::string &name) {
  for (proto::Kernel &k : *plan.mutable_kernels())
    if (k.name() == kernel)
      for (proto::Param &p : *k.mutable_params())
        if (p.name() == name)
          return p;
  ADD_FAILURE() << "no parameter " << kernel << "." << name;
  return *plan.mutable_kernels(0)->mutable_params(0);
}
proto::Limits &limits(proto::Plan &plan) { return *plan.mutable_limits(); }

constexpr uint64_t kHuge = UINT64_MAX - 63;

// clang-format off
const Mutation kMutations[] = {
    // Model and limits.
    {"NoModel", [](auto &p) { p.clear_model(); }, "plan.pb: model: vocab_size is 0, outside [1, "},
    {"EosOutOfRange", [](auto &p) { p.mutable_model()->add_eos_token_ids(64); }, "eos_token_ids has 64, outside [0, 63]"},
    {"BosOutOfRange", [](auto &p) { p.mutable_model()->set_bos_token_id(-2); }, "bos_token_id is -2, outside [-1, 63]"},
    {"TopKAboveExperts", [](auto &p) { p.mutable_model()->set_top_k(5); }, "top_k is 5, outside [0, 4]"},
    {"NoLimits", [](auto &p) { p.clear_limits(); }, "limits: max_batch_tokens is 0, outside [1, 1048576]"},
    {"MoreSeqsThanTokens", [](auto &p) { limits(p).set_max_seqs(17); }, "max_seqs is 17, outside [1, 16]"},
    {"MoreRowsThanTokens", [](auto &p) { limits(p).set_max_logit_rows(17); }, "max_logit_rows is 17, outside [1, 16]"},
    {"NoPageSize", [](auto &p) { limits(p).set_page_size(0); }, "page_size is 0, outside [1, 65536]"},
    {"TooFewPages", [](auto &p) { limits(p).set_num_pages(11); }, "num_pages is 11, outside [12, 2147483647]"},
    {"LongSequences", [](auto &p) { limits(p).set_max_seq_len(UINT32_MAX); }, "max_seq_len is 4294967295, outside [1, 1073741824]"},
    // Kernels.
    {"UnknownFamily", [](auto &p) { p.mutable_kernels(1)->set_family("evil"); }, "kernel 1 \"layers.0.norm\": "},
    {"MissingParam", [](auto &p) { p.mutable_kernels(0)->mutable_params()->RemoveLast(); }, "parameter \"multiplier\" is missing"},
    {"ParamWithoutValue", [](auto &p) { param(p, "embed", "vocab").clear_value(); }, "parameter \"vocab\" has no value"},
    {"HugeParam", [](auto &p) { param(p, "head", "k").set_i(INT64_MAX); }, "\"k\" is 9223372036854775807, outside"},
    {"NegativeParam", [](auto &p) { param(p, "embed", "hidden").set_i(-32); }, "\"hidden\" is -32, outside"},
    {"SmallTable", [](auto &p) { param(p, "embed", "vocab").set_i(63); }, "its table has 63 rows, fewer than the vocabulary of 64"},
    {"OtherSampleVocabulary", [](auto &p) { param(p, "sample", "vocab").set_i(63); }, "it samples from 63 tokens, but the vocabulary has 64"},
    // Ranks, weights file.
    {"NoRanks", [](auto &p) { p.clear_ranks(); }, "the number of ranks is 0, outside [1, 4096]"},
    {"WrongRankNumber", [](auto &p) { rank(p).set_rank(7); }, "rank 0 is numbered 7"},
    {"NoWeightsFile", [](auto &p) { p.clear_weights_files(); }, "has 0 weights files for 1 ranks"},
    {"WrongFileSize", [](auto &p) { p.mutable_weights_files(0)->set_bytes(10); }, "but the plan says 10"},
    {"WrongDataStart", [](auto &p) { p.mutable_weights_files(0)->set_data_start(0); }, "its data section begins at 4096, but the plan says 0"},
    {"NoChunkSize", [](auto &p) { p.mutable_weights_files(0)->set_chunk_bytes(0); }, "chunk_bytes is 0"},
    {"TooManyChunks", [](auto &p) { p.mutable_weights_files(0)->set_chunk_bytes(1); }, "but the plan has 1 hashes"},
    {"ShortChunkHash", [](auto &p) { p.mutable_weights_files(0)->set_chunk_sha256(0, "x"); }, "a chunk's sha256 has 1 bytes, not 32"},
    {"ShortFileHash", [](auto &p) { p.mutable_weights_files(0)->clear_sha256(); }, "its sha256 has 0 bytes, not 32"},
    // Slabs.
    {"UnknownSlabKind", [](auto &p) { rank(p).mutable_slabs(1)->set_kind(proto::Slab::Kind(9)); }, "slab 1 is of a kind this runtime does not know"},
    {"TwoIoSlabs", [](auto &p) { rank(p).mutable_slabs(1)->set_kind(proto::Slab::IO); }, "slab 3 (io): a rank has one slab of each kind"},
    {"HugeSlab", [](auto &p) { rank(p).mutable_slabs(1)->set_bytes(kHuge); }, "slab 1 (kv): bytes is 18446744073709551552, outside"},
    {"BadAlignment", [](auto &p) { rank(p).mutable_slabs(2)->set_alignment(96); }, "slab 2 (arena): alignment 96 is not a power of two in [64, 2097152]"},
    {"SmallAlignment", [](auto &p) { rank(p).mutable_slabs(2)->set_alignment(32); }, "alignment 32 is not a power of two"},
    {"ZeroAlignment", [](auto &p) { rank(p).mutable_slabs(2)->set_alignment(0); }, "alignment 0 is not a power of two"},
    {"WeightsBeyondFile", [](auto &p) { rank(p).mutable_slabs(0)->set_bytes(1 << 30); }, "slab 0 (weights): 1073741824 bytes exceed the "},
    {"WeightsAlignment", [](auto &p) { rank(p).mutable_slabs(0)->set_alignment(1 << 20); }, "is not aligned to 1048576 bytes"},
    {"NoSlabs", [](auto &p) { rank(p).clear_slabs(); }, "rank 0: has no io slab"},
    // Weights.
    {"DuplicateWeight", [](auto &p) { *rank(p).add_weights() = rank(p).weights(0); }, "weight \"embed\" appears twice"},
    {"UnknownWeight", [](auto &p) { rank(p).mutable_weights(0)->set_name("none\n"); }, "weight \"none\\x0a\": is not in \"weights/rank-0.safetensors\""},
    {"WrongWeightOffset", [](auto &p) { rank(p).mutable_weights(0)->set_offset(64); }, "weight \"embed\": offset 64, size 8192 differ from offset 0, size 8192"},
    {"WeightBeyondSlab", [](auto &p) { rank(p).mutable_slabs(0)->set_bytes(100); }, "exceed the weights slab's 100 bytes"},
    // IO.
    {"MissingIo", [](auto &p) { io(p, "page_table").set_name("other"); }, "io buffer \"page_table\" is missing"},
    {"IoSize", [](auto &p) { io(p, "token_ids").set_bytes(60); }, "io buffer \"token_ids\" has 60 bytes; the plan's limits ask for 64"},
    {"IoOutside", [](auto &p) { io(p, "logits").set_offset(kHuge); }, "io buffer \"logits\": offset 18446744073709551552, size 4096 exceed the io slab's"},
    {"IoUnaligned", [](auto &p) { io(p, "header").set_offset(32); }, "io buffer \"header\": offset 32 is not a multiple of 64"},
    {"IoOverlap", [](auto &p) { io(p, "positions").set_offset(io(p, "token_ids").offset()); }, "io buffer \"positions\" overlaps io buffer \"token_ids\""},
    {"IoDuplicate", [](auto &p) { auto b = io(p, "header"); b.set_offset(rank(p).slabs(3).bytes()); b.set_bytes(0); *rank(p).add_io() = b; }, "io buffer \"header\" appears twice"},
    {"ExpertCounts", [](auto &p) { io(p, "expert_counts").set_bytes(12); }, "io buffer \"expert_counts\" has 12 bytes, not a multiple of 4 for each of 4 experts"},
    // Buckets.
    {"NoBuckets", [](auto &p) { rank(p).clear_buckets(); }, "the number of buckets is 0, outside [1, 1024]"},
    {"BucketOrder", [](auto &p) { rank(p).mutable_buckets()->SwapElements(0, 1); }, "bucket 1 follows bucket 4; token counts must ascend from 1"},
    {"EmptyBucket", [](auto &p) { bucket(p).set_tokens(0); }, "bucket 0 follows bucket 0"},
    {"LargeBucket", [](auto &p) { bucket(p, 2).set_tokens(17); }, "bucket 17 exceeds max_batch_tokens 16"},
    {"NoLargestBucket", [](auto &p) { rank(p).mutable_buckets()->RemoveLast(); }, "the largest bucket has 4 tokens, but max_batch_tokens is 16"},
    {"ArenaTooSmall", [](auto &p) { rank(p).mutable_slabs(2)->set_bytes(64); }, "exceed the arena slab's 64 bytes"},
    {"LiveAboveArena", [](auto &p) { bucket(p).set_live_bytes(1 << 20); }, "live_bytes 1048576 exceed its arena_bytes"},
    // Launches.
    {"NoOperation", [](auto &p) { bucket(p).mutable_commands(0)->clear_op(); }, "bucket 1: command 0 is of a kind this runtime does not know"},
    {"KernelIndex", [](auto &p) { launch(p, "embed").set_kernel(1000); }, "command 0 (\"embed\"): kernel index 1000 exceeds the plan's 13 kernels"},
    {"Stream", [](auto &p) { launch(p, "embed").set_stream(64); }, "stream is 64, outside [0, 63]"},
    {"RanksWithoutParallelism", [](auto &p) { *p.add_ranks() = rank(p); }, "parallelism: is missing in a plan of 2 ranks"},
    {"FewArguments", [](auto &p) { launch(p, "embed").mutable_args()->RemoveLast(); }, "has 3 arguments, but embedding takes 4"},
    {"AbsentArgument", [](auto &p) { arg(p, "embed", 2).Clear(); }, "argument 2 \"table\" of embedding: is absent, but the kernel needs 8192 bytes"},
    {"AbsentWithSize", [](auto &p) { arg(p, "head", 3).set_bytes(4); }, "argument 3 \"bias\" of linear: is absent, but has an offset or a size"},
    {"UnwantedArgument", [](auto &p) { arg(p, "head", 3) = arg(p, "head", 1); }, "argument 3 \"bias\" of linear: is present, but the kernel's parameters say"},
    {"SlabIndex", [](auto &p) { arg(p, "embed", 2).set_slab(5); }, "slab 5 exceeds the rank's 4 slabs"},
    {"ShortArgument", [](auto &p) { arg(p, "embed", 2).set_bytes(8191); }, "has 8191 bytes, but the kernel needs 8192"},
    {"OffsetOverflow", [](auto &p) { arg(p, "embed", 3).set_offset(kHuge); }, "bytes at offset 18446744073709551552, size 128, exceed the "},
    {"SizeOverflow", [](auto &p) { arg(p, "embed", 3).set_bytes(UINT64_MAX); }, "size 18446744073709551615, exceed the "},
    {"BeyondBucketArena", [](auto &p) { bucket(p).set_arena_bytes(64); bucket(p).set_live_bytes(0); }, "exceed the 64 bytes of the bucket's arena"},
    {"Unaligned", [](auto &p) { arg(p, "head", 1).set_offset(arg(p, "head", 1).offset() + 4); }, "is not a multiple of 64"},
    {"UnalignedCounts", [](auto &p) { auto &a = arg(p, "layers.0.router", 10); a.set_offset(a.offset() + 2); io(p, "expert_counts").set_bytes(32); rank(p).mutable_slabs(3)->set_bytes(rank(p).slabs(3).bytes() + 64); }, "is not a multiple of 4"},
    {"WritesWeights", [](auto &p) { arg(p, "embed", 3) = arg(p, "embed", 2); }, "argument 3 \"out\" of embedding: is written, but lies in the weights slab, which is read only"},
    {"WritesHeader", [](auto &p) { auto &a = arg(p, "head", 4); a.set_offset(0); }, "is written, but lies in a part of the io slab that kernels only read"},
    {"AcrossWeights", [](auto &p) { arg(p, "head", 2).set_offset(4096); }, "of the weights slab are not part of one weight"},
    {"FalseHeader", [](auto &p) { arg(p, "embed", 0).set_offset(io(p, "token_ids").offset()); }, "argument 0 \"header\" of embedding: must be the IO buffer \"header\", which the host program fills"},
    {"FalseTokenIds", [](auto &p) { auto bytes = arg(p, "embed", 1).bytes(); arg(p, "embed", 1) = arg(p, "layers.0.attention", 6); arg(p, "embed", 1).set_bytes(bytes); }, "argument 1 \"token_ids\" of embedding: must be the IO buffer \"token_ids\""},
    {"FalsePageTable", [](auto &p) { auto &a = arg(p, "layers.0.attention", 5); a.set_offset(io(p, "logits").offset()); }, "argument 5 \"page_table\" of attention: must be the IO buffer \"page_table\""},
    {"FalseOrder", [](auto &p) { arg(p, "layers.0.gate_up", 3) = arg(p, "layers.0.router", 5); }, "argument 3 \"order\" of experts_gate_up: is not the result \"order\" of an earlier router with 4 experts and top_k 2"},
    {"SwappedOrder", [](auto &p) { std::swap(arg(p, "layers.0.down", 3), arg(p, "layers.0.down", 4)); }, "is not the result \"order\" of an earlier router"},
    {"OtherTopK", [](auto &p) { param(p, "layers.0.gate_up", "top_k").set_i(1); }, "of an earlier router with 4 experts and top_k 1"},
    {"OverwrittenOrder", [](auto &p) { arg(p, "layers.0.gate_up", 7).set_offset(arg(p, "layers.0.router", 8).offset() / 64 * 64); }, "is written and overlaps argument 3 \"order\""},
    {"OrderOverwrittenBetween", [](auto &p) { auto &a = arg(p, "layers.0.gate_up", 7); a.set_offset(arg(p, "layers.0.router", 9).offset()); }, "is not the result \"inverse\" of an earlier router"},
    {"RouterResultsOverlap", [](auto &p) { arg(p, "layers.0.router", 7).set_offset(arg(p, "layers.0.router", 8).offset()); }, "\"offsets\" is written and overlaps argument 8 \"order\""},
    {"NormInPlace", [](auto &p) { arg(p, "layers.0.norm", 4) = arg(p, "layers.0.norm", 1); }, "argument 4 \"out\" is written and overlaps argument 1 \"x\""},
    {"NoLogits", [](auto &p) { arg(p, "head", 4) = arg(p, "layers.0.post", 2); arg(p, "head", 4).set_offset(0); arg(p, "head", 4).set_bytes(256); arg(p, "head", 1).set_offset(1024); }, "no command writes the buffer \"logits\""},
};
// clang-format on

TEST(PlanValidator, RefusesHostilePlans) {
  test::TempDir dir;
  ASSERT_TRUE(test::writeArtifact(dir.file("tiny"), test::makeTinyModel()).isOk());
  auto valid = parsePlan(MappedFile::open(dir.file("tiny/plan.pb"))->bytes());
  auto weights = SafetensorsFile::open(dir.file("tiny/weights/rank-0.safetensors"));
  ASSERT_TRUE(valid.isOk() && weights.isOk());
  const WeightsFacts facts{weights->fileSize(), &weights->header()};
  ASSERT_TRUE(validatePlan(*valid, {&facts, 1}).isOk());
  // One test, not one per row: each would write the artifact again.
  for (const Mutation &mutation : kMutations) {
    SCOPED_TRACE(mutation.name);
    proto::Plan plan = *valid;
    mutation.apply(plan);
    Status status = validatePlan(plan, {&facts, 1}).status();
    EXPECT_THAT(status.code(), testing::AnyOf(StatusCode::kDataCorrupt, StatusCode::kUnsupported));
    EXPECT_THAT(std::string(status.message()), HasSubstr(mutation.message));
  }
}

/// A plan of several ranks with what its validation needs.
class RanksPlanTest : public testing::Test {
protected:
  void make(const test::TinyShape &shape) {
    ASSERT_TRUE(test::writeArtifact(dir.file("tiny"), test::makeTinyModel(shape)).isOk());
    auto parsed = parsePlan(MappedFile::open(dir.file("tiny/plan.pb"))->bytes());
    ASSERT_TRUE(parsed.isOk());
    valid = *parsed;
    for (int rank = 0; rank < shape.ranks; ++rank) {
      auto opened = SafetensorsFile::open(dir.file("tiny/" + weightsFileName(size_t(rank))));
      ASSERT_TRUE(opened.isOk());
      files.push_back(std::make_unique<SafetensorsFile>(std::move(*opened)));
      facts.push_back({files.back()->fileSize(), &files.back()->header()});
    }
    Status status = validatePlan(valid, facts).status();
    ASSERT_TRUE(status.isOk()) << status.toString();
  }
  void expectRefused(std::span<const Mutation> mutations) {
    for (const Mutation &mutation : mutations) {
      SCOPED_TRACE(mutation.name);
      proto::Plan plan = valid;
      mutation.apply(plan);
      Status status = validatePlan(plan, facts).status();
      EXPECT_THAT(status.code(),
                  testing::AnyOf(StatusCode::kDataCorrupt, StatusCode::kUnsupported));
      EXPECT_THAT(std::string(status.message()), HasSubstr(mutation.message));
    }
  }

  test::TempDir dir;
  proto::Plan valid;
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  std::vector<WeightsFacts> facts;
};

TEST_F(RanksPlanTest, ChecksWhatRanksShare) {
  make({.expertWidth = 32, .ranks = 2});
  // clang-format off
  const Mutation mutations[] = {
      {"NoTp", [](auto &p) { parallelism(p).set_tp(0); }, "parallelism: tp is 0, outside [1, 2]"},
      {"HugeTp", [](auto &p) { parallelism(p).set_tp(1u << 31); }, "parallelism: tp is 2147483648, outside [1, 2]"},
      {"NoEp", [](auto &p) { parallelism(p).set_ep(0); }, "parallelism: ep is 0, outside [1, 2]"},
      {"OtherRanks", [](auto &p) { parallelism(p).set_ep(2); }, "tp 2 times ep 2 is not the 2 ranks of the plan"},
      {"NoDp", [](auto &p) { parallelism(p).set_dp(0); }, "dp 0 does not divide the 2 ranks of the plan"},
      {"LargeDp", [](auto &p) { parallelism(p).set_dp(3); }, "dp 3 does not divide the 2 ranks"},
      {"AttentionTp", [](auto &p) { parallelism(p).set_attention_tp(4); }, "attention_tp 4 does not divide the 2 ranks of a data parallel group"},
      {"NoAttentionTp", [](auto &p) { parallelism(p).set_attention_tp(0); }, "attention_tp 0 does not divide"},
      {"OtherBuckets", [](auto &p) { p.mutable_ranks(1)->mutable_buckets(0)->set_tokens(2); }, "rank 1: its buckets are not those of rank 0"},
      {"FewerBuckets", [](auto &p) { p.mutable_ranks(1)->mutable_buckets()->DeleteSubrange(0, 1); }, "rank 1: its buckets are not those of rank 0"},
      {"GroupBuffers", [](auto &p) { parallelism(p).set_dp(2); }, "io buffer \"global_header\" is missing"},
      // Records of collectives.
      {"Kind", [](auto &p) { exchange(p, "layers.0.reduce").set_kind(proto::Collective::Kind(5)); }, "(\"layers.0.reduce\"): is a collective of a kind this runtime does not know"},
      {"Stream", [](auto &p) { exchange(p, "layers.0.reduce").set_stream(64); }, "stream is 64, outside [0, 63]"},
      {"Element", [](auto &p) { exchange(p, "layers.0.reduce").set_element("f64"); }, "element is \"f64\"; this runtime exchanges \"f32\""},
      {"RankOutside", [](auto &p) { exchange(p, "layers.0.reduce").set_ranks(1, 2); }, "a member of ranks is 2, outside [0, 1]"},
      {"RankTwice", [](auto &p) { exchange(p, "layers.0.reduce").set_ranks(1, 0); }, "rank 0 is twice in ranks"},
      {"NotAMember", [](auto &p) { auto &e = exchange(p, "layers.0.reduce"); e.clear_ranks(); e.add_ranks(1); }, "ranks does not have this rank"},
      {"NoRanks", [](auto &p) { exchange(p, "layers.0.reduce").clear_ranks(); }, "ranks does not have this rank"},
      {"Root", [](auto &p) { exchange(p, "layers.0.reduce").set_root(1); }, "root is 1, but only a broadcast has one"},
      {"RootOutside", [](auto &p) { auto &e = exchange(p, "layers.0.reduce"); e.set_kind(proto::Collective::BROADCAST); e.set_root(7); }, "root 7 is not in ranks"},
      {"NoSource", [](auto &p) { exchange(p, "layers.0.reduce").clear_source(); }, "source: slab 0 exceeds the rank's 4 slabs"},
      {"ResultSlab", [](auto &p) { exchange(p, "layers.0.reduce").mutable_result()->set_slab(5); }, "result: slab 5 exceeds the rank's 4 slabs"},
      {"SourceOutside", [](auto &p) { exchange(p, "layers.0.reduce").mutable_source()->set_offset(kHuge); }, "source: bytes at offset 18446744073709551552, size 128, exceed the "},
      {"ResultOutside", [](auto &p) { exchange(p, "layers.0.reduce").mutable_result()->set_bytes(1 << 20); }, "result: bytes at offset "},
      {"Unaligned", [](auto &p) { auto &r = *exchange(p, "layers.0.reduce").mutable_result(); r.set_offset(r.offset() - 4); }, "is not a multiple of 64"},
      {"WritesWeights", [](auto &p) { exchange(p, "layers.0.reduce").mutable_result()->set_slab(1); }, "result: is written, but lies in the weights slab, which is read only"},
      {"WritesHeader", [](auto &p) { auto &r = *exchange(p, "layers.0.reduce").mutable_result(); r.set_slab(4); r.set_offset(0); }, "result: is written, but lies in a part of the io slab"},
      {"AcrossWeights", [](auto &p) { auto &e = exchange(p, "layers.0.reduce"); e.mutable_source()->set_slab(1); e.mutable_source()->set_offset(8128); }, "source: bytes at offset 8128, size 128, of the weights slab are not part of one weight"},
      {"Overlap", [](auto &p) { auto &r = *exchange(p, "layers.0.reduce").mutable_result(); r.set_offset(r.offset() - 64); }, "source and result overlap, but are not the same bytes"},
      {"OverlappingGather", [](auto &p) { auto &e = exchange(p, "layers.0.reduce"); e.set_kind(proto::Collective::ALL_GATHER); e.mutable_source()->set_bytes(64); }, "source and result overlap"},
      {"CountsOfASum", [](auto &p) { *exchange(p, "layers.0.reduce").mutable_counts() = arg(p, "embed", 0); }, "has counts, but only an all-gather and a reduce-scatter may"},
      {"AbsentCounts", [](auto &p) { exchange(p, "layers.0.reduce").mutable_counts()->set_bytes(8); }, "counts is absent, but has an offset or a size"},
      {"RowElements", [](auto &p) { exchange(p, "layers.0.reduce").set_row_elements(8); }, "row_elements is 8, but there are no counts"},
      {"OtherSize", [](auto &p) { exchange(p, "layers.0.reduce").mutable_result()->set_bytes(64); }, "result has 64 bytes, but a source of 128 bytes on 2 ranks gives 128"},
      {"GatheredSize", [](auto &p) { exchange(p, "layers.0.reduce").set_kind(proto::Collective::ALL_GATHER); }, "result has 128 bytes, but a source of 128 bytes on 2 ranks gives 256"},
      {"ScatteredSize", [](auto &p) { exchange(p, "layers.0.reduce").set_kind(proto::Collective::REDUCE_SCATTER); }, "gives 64"},
      {"UnevenParts", [](auto &p) { auto &e = exchange(p, "layers.0.reduce"); e.set_kind(proto::Collective::ALL_TO_ALL); e.mutable_source()->set_bytes(124); }, "source has 124 bytes, not a positive multiple of 8"},
      {"Empty", [](auto &p) { exchange(p, "layers.0.reduce").mutable_source()->set_bytes(0); }, "source has 0 bytes, not a positive multiple of 4"},
      {"OverwritesOrder", [](auto &p) { auto &e = exchange(p, "layers.0.reduce"); *e.mutable_source() = *e.mutable_result() = arg(p, "layers.0.router", 8); auto &b = bucket(p); b.mutable_commands()->SwapElements(b.commands_size() - 5, b.commands_size() - 6); }, "is not the result \"order\" of an earlier router"},
      // What only both ranks together show.
      {"OtherKinds", [](auto &p) { exchange(p, "layers.0.reduce").set_kind(proto::Collective::BROADCAST); }, "meet, but differ in the kind"},
      {"OtherLabels", [](auto &p) { exchange(p, "layers.0.reduce").set_label("x"); }, "meet, but differ in the label"},
      {"OtherRoots", [](auto &p) { exchange(p, "layers.0.reduce").set_kind(proto::Collective::BROADCAST); exchange(p, "layers.0.reduce", 1).set_kind(proto::Collective::BROADCAST); exchange(p, "layers.0.reduce").set_root(1); }, "meet, but differ in the root"},
      {"OtherSizes", [](auto &p) { auto &e = exchange(p, "layers.0.reduce"); e.mutable_source()->set_bytes(64); e.mutable_result()->set_bytes(64); }, "meet, but differ in the size of the source"},
      {"OtherOrderOfRanks", [](auto &p) { exchange(p, "layers.0.reduce").mutable_ranks()->SwapElements(0, 1); }, "waits for ever: 1 of its 2 ranks do not come"},
      {"OneFewer", [](auto &p) { exchange(p, "layers.0.reduce").mutable_ranks()->RemoveLast(); }, "bucket 1: rank 1 command "},
  };
  // clang-format on
  expectRefused(mutations);
}

TEST_F(RanksPlanTest, ChecksRowsOfGroups) {
  make({.expertWidth = 64, .ranks = 4, .dp = 2});
  // clang-format off
  const Mutation mutations[] = {
      {"FewerGroups", [](auto &p) { parallelism(p).set_dp(1); }, "has counts of 1 groups, but ranks is not one rank of each group in order"},
      {"NoCounts", [](auto &p) { exchange(p, "layers.0.dispatch").mutable_counts()->Clear(); }, "row_elements is 32, but there are no counts"},
      {"FalseCounts", [](auto &p) { exchange(p, "layers.0.dispatch").mutable_counts()->set_offset(0); }, "counts must be the IO buffer \"group_tokens\" or \"group_logit_rows\""},
      {"ShortCounts", [](auto &p) { exchange(p, "layers.0.dispatch").mutable_counts()->set_bytes(4); }, "counts must be the IO buffer"},
      {"CountsOutside", [](auto &p) { exchange(p, "layers.0.dispatch").mutable_counts()->set_offset(kHuge); }, "counts: bytes at offset 18446744073709551552"},
      {"ArenaCounts", [](auto &p) { exchange(p, "layers.0.dispatch").mutable_counts()->set_slab(3); exchange(p, "layers.0.dispatch").mutable_counts()->set_offset(0); }, "counts must be the IO buffer"},
      {"OtherGroups", [](auto &p) { exchange(p, "layers.0.dispatch").set_ranks(1, 1); }, "has counts of 2 groups, but ranks is not one rank of each group in order"},
      {"GroupOrder", [](auto &p) { exchange(p, "layers.0.dispatch").mutable_ranks()->SwapElements(0, 1); }, "ranks is not one rank of each group in order"},
      {"MoreRanks", [](auto &p) { exchange(p, "layers.0.dispatch").add_ranks(3); }, "ranks is not one rank of each group in order"},
      {"NoRowElements", [](auto &p) { exchange(p, "layers.0.dispatch").set_row_elements(0); }, "row_elements is 0, outside [1, 1073741824]"},
      {"HugeRows", [](auto &p) { exchange(p, "layers.0.dispatch").set_row_elements(UINT64_MAX); }, "row_elements is 18446744073709551615, outside"},
      {"LongRows", [](auto &p) { exchange(p, "layers.0.dispatch").set_row_elements(33); }, "source has 128 bytes, but 1 rows of 33 elements need 132"},
      {"ShortResult", [](auto &p) { exchange(p, "layers.0.combine").mutable_result()->set_bytes(64); }, "result has 64 bytes, but 1 rows of 32 elements need 128"},
      {"InPlace", [](auto &p) { auto &e = exchange(p, "layers.0.combine"); *e.mutable_result() = e.source(); }, "source and result overlap"},
      {"OtherCounts", [](auto &p) { *exchange(p, "layers.0.dispatch").mutable_counts() = exchange(p, "gather_rows").counts(); }, "meet, but differ in the counts"},
      {"OtherRows", [](auto &p) { exchange(p, "layers.0.dispatch").set_row_elements(31); }, "meet, but differ in the row_elements"},
      {"HeaderOfAll", [](auto &p) { arg(p, "embed", 0) = arg(p, "head", 0); }, "argument 1 \"token_ids\" of embedding: describes the rank's own group, but argument 0"},
      {"OtherHeaders", [](auto &p) { arg(p, "layers.0.gate_up", 0) = arg(p, "embed", 0); }, "argument 2 \"offsets\" of experts_gate_up: was made for other tokens than argument 0"},
      {"FalseSampling", [](auto &p) { arg(p, "sample", 2).set_offset(0); }, "argument 2 \"sampling\" of sample: must be the IO buffer"},
  };
  // clang-format on
  expectRefused(mutations);
}

TEST_F(RanksPlanTest, ChecksRoutingToSlots) {
  make({.expertWidth = 16, .ranks = 2, .ep = 2});
  // clang-format off
  const Mutation mutations[] = {
      {"FalseIds", [](auto &p) { arg(p, "layers.0.assign.0", 1) = arg(p, "layers.0.router", 9); }, "argument 1 \"ids\" of assign_slots: is not the result \"ids\" of an earlier router with 4 experts and top_k 2"},
      {"OtherExperts", [](auto &p) { param(p, "layers.0.assign.0", "experts").set_i(5); param(p, "layers.0.assign.0", "slots").set_s("0,1;2,3,4"); }, "is not the result \"ids\" of an earlier router with 5 experts"},
      {"OtherSlots", [](auto &p) { param(p, "layers.0.gate_up", "experts").set_i(1); }, "is not the result \"offsets\" of an earlier router with 1 experts and top_k 2"},
      {"RoutersOwnOrder", [](auto &p) { arg(p, "layers.0.gate_up", 3) = arg(p, "layers.0.router", 8); }, "is not the result \"order\" of an earlier router with 2 experts"},
  };
  // clang-format on
  expectRefused(mutations);
}

TEST_F(RanksPlanTest, ResultsOfTwoRoutersDoNotMix) {
  make({.layers = 2});
  // Both layers' routers are alike; what the first one wrote is moved to where it stays intact.
  proto::Plan plan = valid;
  const uint64_t moved = bucket(plan).arena_bytes();
  bucket(plan).set_arena_bytes(moved + 4096);
  arg(plan, "layers.0.router", 8).set_offset(moved);
  arg(plan, "layers.0.gate_up", 3).set_offset(moved);
  arg(plan, "layers.0.down", 3).set_offset(moved);
  ASSERT_TRUE(validatePlan(plan, facts).isOk());
  arg(plan, "layers.1.down", 3).set_offset(moved);
  EXPECT_THAT(std::string(validatePlan(plan, facts).status().message()),
              HasSubstr("argument 3 \"order\" of experts_down: is of command 6, but an argument "
                        "before it is of command "));
}

TEST_F(RanksPlanTest, RanksWaitInAnyOrderThatEnds) {
  make({.expertWidth = 64, .ranks = 4, .dp = 2});
  // Rank 0 wants its group first, rank 1 the other group: each waits for the other.
  proto::Plan plan = valid;
  proto::Bucket &first = *plan.mutable_ranks(0)->mutable_buckets(0);
  int reduce = -1, combine = -1;
  for (int i = 0; i < first.commands_size(); ++i)
    if (first.commands(i).has_collective()) {
      reduce = first.commands(i).collective().label() == "layers.0.reduce" ? i : reduce;
      combine = first.commands(i).collective().label() == "layers.0.combine" ? i : combine;
    }
  first.mutable_commands()->SwapElements(reduce, combine);
  EXPECT_TRUE(validatePlan(plan, facts).isOk()) << "rank 2 is done with its group and comes";
  plan.mutable_ranks(3)->mutable_buckets(0)->mutable_commands()->SwapElements(reduce, combine);
  EXPECT_THAT(std::string(validatePlan(plan, facts).status().message()),
              HasSubstr("waits for ever: 1 of its 2 ranks do not come"));
}

TEST_F(RanksPlanTest, FilesOfOtherRanksMayBeElsewhere) {
  make({.expertWidth = 32, .ranks = 2});
  facts[0].header = nullptr;
  EXPECT_TRUE(validatePlan(valid, facts).isOk());
  const Mutation mutations[] = {
      {"BeyondSlab", [](auto &p) { rank(p).mutable_weights(0)->set_offset(kHuge); },
       "exceed the weights slab's"},
      {"DataStart", [](auto &p) { p.mutable_weights_files(0)->set_data_start(uint64_t(1) << 40); },
       "its data section begins at 1099511627776, past its "},
  };
  expectRefused(mutations);
}

TEST(PlanValidator, ChecksLatentAttention) {
  test::TempDir dir;
  ASSERT_TRUE(test::writeArtifact(dir.file("tiny"), test::makeTinyModel({.latent = true})).isOk());
  auto valid = parsePlan(MappedFile::open(dir.file("tiny/plan.pb"))->bytes());
  auto weights = SafetensorsFile::open(dir.file("tiny/weights/rank-0.safetensors"));
  ASSERT_TRUE(valid.isOk() && weights.isOk());
  const WeightsFacts facts{weights->fileSize(), &weights->header()};
  Status status = validatePlan(*valid, {&facts, 1}).status();
  ASSERT_TRUE(status.isOk()) << status.toString();
  // clang-format off
  const Mutation mutations[] = {
      {"WideCache", [](auto &p) { param(p, "layers.0.append", "rotary").set_i(32); }, "argument 5 \"x\" of latent_append: has "},
      {"RotationOutside", [](auto &p) { param(p, "layers.0.query", "rope_offset").set_i(8); }, "\"rope_offset\" is 8, outside [16, 16]"},
      {"MoreHeads", [](auto &p) { param(p, "layers.0.attention", "heads").set_i(3); }, "argument 6 \"q\" of absorbed_attention: has "},
      {"ShortCache", [](auto &p) { arg(p, "layers.0.attention", 7).set_bytes(64); }, "argument 7 \"cache\" of absorbed_attention: has 64 bytes"},
      {"LatentsOverOutput", [](auto &p) { arg(p, "layers.0.attention", 10) = arg(p, "layers.0.attention", 9); }, "\"out\" is written and overlaps argument 10 \"latents\""},
      {"FalsePageTable", [](auto &p) { arg(p, "layers.0.append", 4).set_offset(io(p, "logits").offset()); }, "argument 4 \"page_table\" of latent_append: must be the IO buffer"},
      {"CacheInWeights", [](auto &p) { arg(p, "layers.0.append", 8).set_slab(1); arg(p, "layers.0.append", 8).set_bytes(64); }, "argument 8 \"cache\" of latent_append: has 64 bytes"},
  };
  // clang-format on
  for (const Mutation &mutation : mutations) {
    SCOPED_TRACE(mutation.name);
    proto::Plan plan = *valid;
    mutation.apply(plan);
    EXPECT_THAT(std::string(validatePlan(plan, {&facts, 1}).status().message()),
                HasSubstr(mutation.message));
  }
}

TEST(PlanRecords, SmallBucketsHaveFewSequences) {
  proto::Limits limits;
  limits.set_max_seqs(8);
  limits.set_max_logit_rows(32);
  limits.set_max_seq_len(17);
  limits.set_page_size(4);
  limits.set_num_pages(9);
  abi::StepDims small = bucketDims(limits, 4), large = bucketDims(limits, 64);
  EXPECT_EQ(small.seqs, 4);
  EXPECT_EQ(small.logitRows, 4);
  EXPECT_EQ(large.seqs, 8);
  EXPECT_EQ(large.logitRows, 32);
  EXPECT_EQ(large.pagesPerSeq, 5);
}

TEST(PlanRecords, IoSizesDoNotOverflow) {
  proto::Limits limits;
  limits.set_max_seqs(UINT32_MAX);
  limits.set_max_seq_len(UINT32_MAX);
  limits.set_page_size(1);
  EXPECT_EQ(ioBufferBytes(limits, 1).status().code(), StatusCode::kResourceExhausted);
}

} // namespace
} // namespace sluice
