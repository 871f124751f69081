//===- PlanEmitter.cpp - From the plan dialect to plan.pb -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The dialects' verifiers have checked the module, so attributes are taken as they are; what the
// plan's records cannot hold is refused, and the writer validates the result with the loader's own
// checks once more.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/PlanEmitter.h"

#include "dialects/Plan/Plan.h"
#include "runtime/artifact/PlanRecords.h"
#include "runtime/base/Version.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace sluice {
namespace {

std::string str(StringRef text) { return text.str(); }

class PlanEmitter {
public:
  explicit PlanEmitter(ModuleOp module) : module(module) {}

  Result<proto::Plan> run() {
    plan.set_producer(std::string("sluice-compile ") + kVersion);
    SLUICE_RETURN_IF_ERROR(emitModel());
    for (auto kernel : module.getOps<plan::KernelOp>()) {
      SLUICE_ASSIGN_OR_RETURN(abi::FamilyParams params, kernel.getFamilyParams());
      kernelIndex[kernel.getSymNameAttr()] = uint32_t(plan.kernels_size());
      *plan.add_kernels() = makeKernel(str(kernel.getSymName()), params);
    }
    SmallVector<plan::RankOp> ranks(module.getOps<plan::RankOp>());
    if (ranks.empty())
      return invalidArgument("the module holds no plan.rank; run the phases up to planned first");
    llvm::sort(ranks, [](plan::RankOp a, plan::RankOp b) { return a.getNumber() < b.getNumber(); });
    for (plan::RankOp rank : ranks)
      SLUICE_RETURN_IF_ERROR(emitRank(rank, *plan.add_ranks()));
    return std::move(plan);
  }

private:
  Status emitModel() {
    auto model = module->getAttrOfType<DictionaryAttr>(moe::MoeDialect::getModelAttrName());
    auto limits = module->getAttrOfType<DictionaryAttr>(moe::MoeDialect::getLimitsAttrName());
    auto target = module->getAttrOfType<StringAttr>(moe::MoeDialect::getTargetAttrName());
    if (!model || !limits || !target)
      return invalidArgument("the module lacks one of the attributes moe.model, moe.limits and "
                             "moe.target; it was not made by an importer");
    auto number = [](DictionaryAttr dict, StringRef name) {
      return dict.getAs<IntegerAttr>(name).getInt();
    };
    proto::Model &m = *plan.mutable_model();
    m.set_name(str(model.getAs<StringAttr>("name").getValue()));
    m.set_family(str(model.getAs<StringAttr>("family").getValue()));
    m.set_vocab_size(uint32_t(number(model, "vocab_size")));
    m.set_hidden_size(uint32_t(number(model, "hidden_size")));
    m.set_num_layers(uint32_t(number(model, "num_layers")));
    m.set_num_experts(uint32_t(number(model, "num_experts")));
    m.set_top_k(uint32_t(number(model, "top_k")));
    m.set_max_position(uint32_t(number(model, "max_position")));
    for (int64_t id : model.getAs<DenseI64ArrayAttr>("eos_token_ids").asArrayRef())
      m.add_eos_token_ids(int32_t(id));
    m.set_bos_token_id(int32_t(number(model, "bos_token_id")));
    m.set_total_parameters(uint64_t(number(model, "total_parameters")));
    m.set_active_parameters(uint64_t(number(model, "active_parameters")));

    proto::Limits &l = *plan.mutable_limits();
    l.set_max_batch_tokens(uint32_t(number(limits, "max_batch_tokens")));
    l.set_max_seqs(uint32_t(number(limits, "max_seqs")));
    l.set_max_seq_len(uint32_t(number(limits, "max_seq_len")));
    l.set_max_logit_rows(uint32_t(number(limits, "max_logit_rows")));
    l.set_page_size(uint32_t(number(limits, "page_size")));
    l.set_num_pages(uint32_t(number(limits, "num_pages")));
    plan.set_target(str(target.getValue()));
    emitParallelism();
    return Status::ok();
  }

  void emitParallelism() {
    auto parallel =
        module->getAttrOfType<DictionaryAttr>(moe::MoeDialect::getParallelAttrName());
    if (!parallel)
      return;
    auto number = [&](StringRef name) {
      auto value = parallel.getAs<IntegerAttr>(name);
      return value ? uint32_t(value.getInt()) : 1;
    };
    proto::Parallelism &p = *plan.mutable_parallelism();
    p.set_tp(number("tp"));
    p.set_ep(number("ep"));
    p.set_dp(number("dp"));
    p.set_attention_tp(number("attention_tp"));
  }

  static proto::Slab::Kind slabKind(plan::SlabKind kind) {
    switch (kind) {
    case plan::SlabKind::Weights:
      return proto::Slab::WEIGHTS;
    case plan::SlabKind::Kv:
      return proto::Slab::KV;
    case plan::SlabKind::Arena:
      return proto::Slab::ARENA;
    case plan::SlabKind::Io:
      return proto::Slab::IO;
    }
    llvm_unreachable("every kind is handled");
  }

  Status emitRank(plan::RankOp rank, proto::RankProgram &record) {
    std::string name = "rank " + std::to_string(rank.getNumber());
    if (!rank.isPacked())
      return invalidArgument(name + " has no offsets; run sluice-pack-memory first");
    record.set_rank(uint32_t(rank.getNumber()));
    slabNumber.clear();
    for (plan::SlabOp slab : rank.getSlabs()) {
      proto::Slab &out = *record.add_slabs();
      out.set_kind(slabKind(slab.getKind()));
      out.set_bytes(slab.getBytes());
      out.set_alignment(uint32_t(slab.getAlignment()));
      slabNumber[slab.getKind()] = uint32_t(record.slabs_size());
    }
    for (plan::WeightOp weight : rank.getWeights()) {
      proto::Weight &out = *record.add_weights();
      out.set_name(str(weight.getSymName()));
      out.set_layout(str(weight.getLayout()));
      out.set_offset(*weight.getOffset());
      out.set_bytes(weight.getBytes());
    }
    for (plan::IoOp io : rank.getIoBuffers()) {
      proto::IoBuffer &out = *record.add_io();
      out.set_name(str(io.getSymName()));
      out.set_offset(*io.getOffset());
      out.set_bytes(io.getBytes());
    }
    for (plan::ProgramOp program : rank.getPrograms()) {
      proto::Bucket &bucket = *record.add_buckets();
      bucket.set_tokens(uint32_t(program.getTokens()));
      bucket.set_arena_bytes(*program.getArenaBytes());
      bucket.set_live_bytes(*program.getLiveBytes());
      for (Operation &op : *program.getBlock()) {
        if (auto launch = dyn_cast<plan::CmdLaunchOp>(op))
          emitLaunch(launch, *bucket.add_commands()->mutable_launch());
        else if (auto collective = dyn_cast<plan::CmdCollectiveOp>(op))
          SLUICE_RETURN_IF_ERROR(
              emitCollective(collective, *bucket.add_commands()->mutable_collective()));
        else
          return unsupported(name + ": plans have no record for " +
                             str(op.getName().getStringRef()) + " yet");
      }
    }
    return Status::ok();
  }

  void emitLaunch(plan::CmdLaunchOp launch, proto::Launch &record) {
    record.set_kernel(kernelIndex.lookup(launch.getKernelAttr().getAttr()));
    for (plan::RangeAttr range : launch.getRanges())
      *record.add_args() = reference(range);
    record.set_stream(uint32_t(launch.getStream()));
    record.set_label(str(launch.getLabel()));
  }

  Status emitCollective(plan::CmdCollectiveOp collective, proto::Collective &record) {
    if (!collective.getElementType().isF32())
      return unsupported("plans have no record for collectives of other elements than f32");
    record.set_kind(proto::Collective::Kind(int(collective.getKind())));
    *record.mutable_source() = reference(collective.getSource());
    *record.mutable_result() = reference(collective.getResult());
    record.set_element("f32");
    for (int64_t rank : collective.getRanks())
      record.add_ranks(uint32_t(rank));
    record.set_root(uint32_t(collective.getRoot().value_or(0)));
    if (std::optional<plan::RangeAttr> counts = collective.getCounts()) {
      *record.mutable_counts() = reference(*counts);
      record.set_row_elements(*collective.getWidth());
    }
    record.set_stream(uint32_t(collective.getStream()));
    record.set_label(str(collective.getLabel()));
    return Status::ok();
  }

  /// A null range is an absent argument.
  proto::BufferRef reference(plan::RangeAttr range) const {
    proto::BufferRef out;
    if (range) {
      out.set_slab(slabNumber.lookup(range.getSlab()));
      out.set_offset(uint64_t(range.getOffset()));
      out.set_bytes(uint64_t(range.getBytes()));
    }
    return out;
  }

  ModuleOp module;
  proto::Plan plan;
  llvm::DenseMap<StringAttr, uint32_t> kernelIndex;
  llvm::DenseMap<plan::SlabKind, uint32_t> slabNumber; ///< from 1; 0 stands for "absent"
};

} // namespace

Result<proto::Plan> buildPlan(ModuleOp module) { return PlanEmitter(module).run(); }

} // namespace sluice
