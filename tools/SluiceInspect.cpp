//===- SluiceInspect.cpp - What is inside an artifact -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Opens an artifact the way the runtime does, every hash checked, and prints what it holds.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Artifact.h"
#include "runtime/base/Format.h"
#include "tools/support/Cli.h"

#include <cstdio>
#include <filesystem>
#include <map>

using namespace sluice;

namespace {

struct InspectOptions {
  std::string artifact;
  bool plan = false, weights = false;
  int bucket = 0;
};

const char *slabKind(proto::Slab::Kind kind) {
  switch (kind) {
  case proto::Slab::WEIGHTS:
    return "weights";
  case proto::Slab::KV:
    return "kv";
  case proto::Slab::ARENA:
    return "arena";
  default:
    return "io";
  }
}

void printSummary(const Artifact &artifact) {
  const proto::Plan &plan = artifact.plan();
  const proto::Model &model = plan.model();
  const proto::Limits &limits = plan.limits();
  std::printf("%s: %s (%s), plan %u.%u by %s for %s, every hash verified\n",
              artifact.path().c_str(), model.name().c_str(), model.family().c_str(), plan.major(),
              plan.minor(), plan.producer().c_str(), plan.target().c_str());
  std::printf("model    %u layers, hidden %u, %u experts, top-%u, vocabulary %u, %.4g M parameters "
              "(%.4g M active per token)\n",
              model.num_layers(), model.hidden_size(), model.num_experts(), model.top_k(),
              model.vocab_size(), 1e-6 * double(model.total_parameters()),
              1e-6 * double(model.active_parameters()));
  std::printf(
      "limits   %u tokens per step, %u sequences of at most %u tokens, %u logits rows, %u KV "
      "pages of %u tokens\n",
      limits.max_batch_tokens(), limits.max_seqs(), limits.max_seq_len(), limits.max_logit_rows(),
      limits.num_pages(), limits.page_size());
  if (plan.ranks_size() > 1) {
    const proto::Parallelism &p = plan.parallelism();
    std::printf("parallel %d ranks: experts tp %u x ep %u, attention dp %u x tp %u\n",
                plan.ranks_size(), p.tp(), p.ep(), p.dp(), p.attention_tp());
  }
  for (const proto::RankProgram &rank : plan.ranks()) {
    std::printf("rank %u  ", rank.rank());
    uint64_t total = 0;
    for (const proto::Slab &slab : rank.slabs()) {
      std::printf(" %s %s,", slabKind(slab.kind()), formatBytes(slab.bytes()).c_str());
      total += slab.bytes();
    }
    std::printf(" together %s\n", formatBytes(total).c_str());
    std::printf("  %-8s %9s %11s %12s %12s %9s\n", "bucket", "launches", "collectives", "arena",
                "live", "packing");
    for (const proto::Bucket &bucket : rank.buckets()) {
      int exchanges = 0;
      for (const proto::Command &command : bucket.commands())
        exchanges += command.has_collective();
      std::printf(
          "  %-8u %9d %11d %12s %12s %8.1f%%\n", bucket.tokens(),
          bucket.commands_size() - exchanges, exchanges, formatBytes(bucket.arena_bytes()).c_str(),
          formatBytes(bucket.live_bytes()).c_str(),
          bucket.live_bytes() ? 100.0 * double(bucket.arena_bytes()) / double(bucket.live_bytes())
                              : 100.0);
    }
  }
}

void printWeights(const Artifact &artifact) {
  for (const proto::RankProgram &rank : artifact.plan().ranks())
    for (const proto::Weight &weight : rank.weights())
      std::printf("rank %u  %12llu +%-12llu %-18s %s\n", rank.rank(),
                  (unsigned long long)weight.offset(), (unsigned long long)weight.bytes(),
                  weight.layout().c_str(), weight.name().c_str());
}

std::string paramText(const proto::Param &param) {
  switch (param.value_case()) {
  case proto::Param::kI:
    return format("%s=%lld", param.name().c_str(), (long long)param.i());
  case proto::Param::kF:
    return format("%s=%g", param.name().c_str(), param.f());
  default:
    return format("%s=%s", param.name().c_str(), param.s().c_str());
  }
}

std::string refText(const proto::RankProgram &rank, const proto::BufferRef &ref) {
  if (ref.slab() == 0)
    return "none";
  return format("%s[%llu for %llu]", slabKind(rank.slabs(int(ref.slab()) - 1).kind()),
                (unsigned long long)ref.offset(), (unsigned long long)ref.bytes());
}

void printLaunch(const proto::Plan &plan, const proto::RankProgram &rank,
                 const proto::Launch &launch) {
  std::printf("%-28s %-18s", launch.label().c_str(),
              plan.kernels(int(launch.kernel())).name().c_str());
  for (const proto::BufferRef &ref : launch.args())
    std::printf(" %s", refText(rank, ref).c_str());
  std::printf("\n");
}

void printCollective(const proto::RankProgram &rank, const proto::Collective &exchange) {
  constexpr const char *kinds[] = {"all_reduce", "all_gather", "reduce_scatter", "all_to_all",
                                   "broadcast"};
  std::string ranks;
  for (uint32_t member : exchange.ranks())
    ranks += (ranks.empty() ? "" : ",") + std::to_string(member);
  std::printf("%-28s %-18s ranks [%s] %s %s -> %s", exchange.label().c_str(),
              kinds[exchange.kind()], ranks.c_str(), exchange.element().c_str(),
              refText(rank, exchange.source()).c_str(), refText(rank, exchange.result()).c_str());
  if (exchange.kind() == proto::Collective::BROADCAST)
    std::printf(" from rank %u", exchange.root());
  for (const proto::IoBuffer &buffer : rank.io())
    if (exchange.counts().slab() != 0 && buffer.offset() == exchange.counts().offset())
      std::printf(" rows %s of %llu", buffer.name().c_str(),
                  (unsigned long long)exchange.row_elements());
  std::printf("\n");
}

void printPlan(const Artifact &artifact, int wanted) {
  const proto::Plan &plan = artifact.plan();
  for (const proto::Kernel &kernel : plan.kernels()) {
    std::printf("kernel %s %s", kernel.name().c_str(), kernel.family().c_str());
    for (const proto::Param &param : kernel.params())
      std::printf(" %s", paramText(param).c_str());
    std::printf("\n");
  }
  for (const proto::RankProgram &rank : plan.ranks())
    for (const proto::Bucket &bucket : rank.buckets()) {
      if (wanted && int(bucket.tokens()) != wanted)
        continue;
      std::printf("program rank %u tokens %u\n", rank.rank(), bucket.tokens());
      int index = 0;
      for (const proto::Command &command : bucket.commands()) {
        std::printf("  %4d ", index++);
        if (command.has_launch())
          printLaunch(plan, rank, command.launch());
        else
          printCollective(rank, command.collective());
      }
    }
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Verifies an artifact and prints what is inside.");
  cli::setUp(app, "sluice-inspect");
  InspectOptions options;
  app.add_option("artifact", options.artifact, "artifact folder, NAME.sluice")->required();
  app.add_flag("--plan", options.plan, "print kernels and programs as text");
  app.add_option("--bucket", options.bucket, "with --plan: only the program of this token count")
      ->check(CLI::PositiveNumber);
  app.add_flag("--weights", options.weights, "print every weight with its place");
  if (int code = cli::parse(app, argc, argv); code >= 0)
    return code;

  Result<Artifact> artifact = Artifact::open(options.artifact);
  if (!artifact.isOk())
    return cli::exitWith("sluice-inspect", artifact.status());
  printSummary(*artifact);
  if (options.weights)
    printWeights(*artifact);
  if (options.plan)
    printPlan(*artifact, options.bucket);
  return 0;
}
