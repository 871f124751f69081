//===- ModelTableReader.cpp - A model's table from its module ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Roles follow from the dataflow, not from names: a product that reads what attention wrote is the
// attention's output whatever an importer calls it.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/ModelTableReader.h"

#include "dialects/Moe/Moe.h"
#include "dialects/Plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace sluice::planner {
namespace {

/// N of "layers.N.rest"; -1 for other names.
int layerOf(StringRef symbol) {
  int layer = -1;
  if (!symbol.consume_front("layers.") || symbol.split('.').first.getAsInteger(10, layer))
    return -1;
  return layer;
}

int64_t widthOf(Value rows) { return cast<RankedTensorType>(rows.getType()).getDimSize(1); }

class FusedReader {
public:
  explicit FusedReader(ModuleOp module) : module(module), symbols(module) {}

  FusedFacts read() {
    module.walk([&](moe::RouterOp router) { routed.insert(layerOf(router.getWeight())); });
    module.walk([&](Operation *op) { readOp(op); });
    return std::move(facts);
  }

private:
  TableLayer &layer(StringRef symbol) {
    int number = layerOf(symbol);
    size_t index = number < 0 ? 0 : size_t(number);
    if (facts.layers.size() <= index)
      facts.layers.resize(index + 1);
    return facts.layers[index];
  }
  void use(FlatSymbolRefAttr weight, WeightRole role, Sharding sharding) {
    // A weight that two operations read (a tied table) keeps what the first said, except that a
    // lookup gives way to a product, which reads all of it.
    if (!weight)
      return;
    auto [entry, isNew] = facts.uses.try_emplace(weight.getValue(), WeightUse{role, sharding});
    if (!isNew && entry->second.role == WeightRole::kEmbedding)
      entry->second = {role, sharding};
  }

  WeightRole ffnRole(StringRef symbol) const {
    return routed.contains(layerOf(symbol)) ? WeightRole::kShared : WeightRole::kDense;
  }

  void readLinear(moe::LinearOp op) {
    Operation *source = op.getX().getDefiningOp();
    auto set = [&](WeightRole role, Sharding weight, Sharding bias) {
      use(op.getWeightAttr(), role, weight);
      use(op.getBiasAttr(), role, bias);
    };
    if (isa_and_nonnull<moe::FfnGateUpOp>(source))
      return set(ffnRole(op.getWeight()), Sharding::kFfnColumns, Sharding::kWhole);
    if (isa_and_nonnull<moe::AttentionOp, moe::AbsorbedAttentionOp>(source))
      return set(WeightRole::kAttention, Sharding::kHeadColumns, Sharding::kWhole);
    if (layerOf(op.getWeight()) < 0)
      return set(WeightRole::kHead, Sharding::kWhole, Sharding::kWhole);
    Value result = op.getResult();
    for (Operation *user : result.getUsers()) {
      // Queries of latent attention, perhaps scaled by position first.
      if (isa<moe::TemperatureOp>(user) && !user->getResult(0).use_empty())
        user = *user->getResult(0).getUsers().begin();
      if (isa<moe::LatentQueryOp>(user))
        return set(WeightRole::kAttention, Sharding::kHeadRows, Sharding::kHeadRows);
    }
    set(WeightRole::kAttention, Sharding::kWhole, Sharding::kWhole);
  }

  void readOp(Operation *op) {
    TypeSwitch<Operation *>(op)
        .Case([&](moe::EmbeddingOp op) {
          use(op.getTableAttr(), WeightRole::kEmbedding, Sharding::kWhole);
        })
        .Case([&](moe::LinearOp op) { readLinear(op); })
        .Case([&](moe::QkvOp op) {
          use(op.getWeightAttr(), WeightRole::kAttention, Sharding::kQkvRows);
          use(op.getBiasAttr(), WeightRole::kAttention, Sharding::kQkvRows);
          auto cache = symbols.lookup<moe::KvCacheOp>(op.getCache());
          TableLayer &to = layer(op.getWeight());
          to.splitsHeads = op.getQkNorm() != moe::QkNorm::Whole;
          to.heads = op.getHeads();
          to.kvHeads = cache.getKvHeads();
          to.headDim = cache.getHeadDim();
          to.valueDim = cache.getValueDim();
        })
        .Case([&](moe::AttentionOp op) {
          use(op.getSinksAttr(), WeightRole::kAttention, Sharding::kHeadRows);
          layer(op.getCache()).window = op.getWindow() > 0 ? op.getWindow() : op.getChunk();
        })
        .Case([&](moe::LatentQueryOp op) {
          use(op.getWeightAttr(), WeightRole::kAttention, Sharding::kHeadBlobs);
        })
        .Case([&](moe::AbsorbedAttentionOp op) {
          use(op.getWeightAttr(), WeightRole::kAttention, Sharding::kHeadBlobs);
          auto cache = symbols.lookup<moe::KvCacheOp>(op.getCache());
          TableLayer &to = layer(op.getCache());
          to.heads = op.getHeads();
          to.kvHeads = 1;
          to.headDim = to.latent = cache.getHeadDim();
          to.valueDim = widthOf(op.getResult()) / to.heads;
        })
        .Case([&](moe::RouterOp op) {
          use(op.getWeightAttr(), WeightRole::kRouter, Sharding::kWhole);
          use(op.getBiasAttr(), WeightRole::kRouter, Sharding::kWhole);
          use(op.getCorrectionAttr(), WeightRole::kRouter, Sharding::kWhole);
          TableLayer &to = layer(op.getWeight());
          auto weight = symbols.lookup<moe::WeightOp>(op.getWeight());
          to.experts = cast<RankedTensorType>(weight.getType()).getDimSize(0);
          to.topK = op.getRouting().getTopK();
        })
        .Case([&](moe::ExpertsGateUpOp op) {
          use(op.getWeightAttr(), WeightRole::kExperts, Sharding::kExpertRows);
          use(op.getBiasAttr(), WeightRole::kExperts, Sharding::kExpertRows);
          layer(op.getWeight()).expertWidth = widthOf(op.getResult());
        })
        .Case([&](moe::ExpertsDownOp op) {
          use(op.getWeightAttr(), WeightRole::kExperts, Sharding::kExpertColumns);
          use(op.getBiasAttr(), WeightRole::kExperts, Sharding::kExpertWhole);
        })
        .Case([&](moe::FfnGateUpOp op) {
          use(op.getWeightAttr(), ffnRole(op.getWeight()), Sharding::kFfnRows);
          use(op.getBiasAttr(), ffnRole(op.getWeight()), Sharding::kFfnRows);
          layer(op.getWeight()).ffnWidth = widthOf(op.getResult());
        })
        .Case([&](moe::SigmoidGateOp op) {
          use(op.getWeightAttr(), WeightRole::kShared, Sharding::kWhole);
        });
  }

  ModuleOp module;
  SymbolTable symbols;
  FusedFacts facts;
  llvm::DenseSet<int> routed;
};

/// Sizes of a stored weight: [blobs, n, k] of its layout.
void setSizes(TableWeight &weight, ArrayRef<int64_t> shape) {
  auto product = [](ArrayRef<int64_t> dims) {
    int64_t result = 1;
    for (int64_t dim : dims)
      result *= dim;
    return result;
  };
  if (weight.layout == "row_major") {
    // Tables have rows; biases of experts one row per expert.
    bool isPerExpert = weight.role == WeightRole::kExperts && shape.size() > 1;
    bool isTable = weight.role == WeightRole::kEmbedding && shape.size() == 2;
    weight.blobs = isPerExpert ? shape.front() : 1;
    weight.k = isTable ? shape.back() : 1;
    weight.n = product(shape) / weight.blobs / weight.k;
    return;
  }
  weight.k = shape.back();
  weight.n = shape[shape.size() - 2];
  weight.blobs = product(shape.drop_back(2)) / (weight.isPaired() ? 2 : 1);
}

WeightUse useOf(plan::WeightOp weight, const FusedFacts &facts) {
  auto entry = facts.uses.find(weight.getFrom());
  return entry == facts.uses.end() ? WeightUse() : entry->second;
}

} // namespace

FusedFacts readFused(ModuleOp fused) { return FusedReader(fused).read(); }

ModelTable readModelTable(ModuleOp planned, const FusedFacts &facts) {
  ModelTable table;
  table.layers = facts.layers;
  auto dictionary = [&](StringRef name) { return planned->getAttrOfType<DictionaryAttr>(name); };
  DictionaryAttr model = dictionary(moe::MoeDialect::getModelAttrName());
  DictionaryAttr limits = dictionary(moe::MoeDialect::getLimitsAttrName());
  auto number = [](DictionaryAttr from, StringRef name) {
    return from.getAs<IntegerAttr>(name).getInt();
  };
  table.name = model.getAs<StringAttr>("name").getValue().str();
  table.family = model.getAs<StringAttr>("family").getValue().str();
  table.hidden = number(model, "hidden_size");
  table.vocab = number(model, "vocab_size");
  table.maxPosition = number(model, "max_position");
  table.limits = {number(limits, "max_batch_tokens"), number(limits, "max_seqs"),
                  number(limits, "max_seq_len"),      number(limits, "max_logit_rows"),
                  number(limits, "page_size"),        number(limits, "num_pages")};

  plan::RankOp rank = *planned.getOps<plan::RankOp>().begin();
  SymbolTable symbols(planned);
  for (plan::WeightOp weight : rank.getWeights()) {
    TableWeight entry;
    entry.name = weight.getSymName().str();
    entry.layer = layerOf(weight.getSymName());
    WeightUse use = useOf(weight, facts);
    entry.role = use.role;
    entry.sharding = use.sharding;
    entry.layout = weight.getLayout().str();
    entry.format = weight.getFormat().str();
    entry.bytes = uint64_t(weight.getBytes());
    auto source = symbols.lookup<moe::WeightOp>(weight.getFrom());
    setSizes(entry, cast<RankedTensorType>(source.getType()).getShape());
    table.weights.push_back(std::move(entry));
  }
  for (plan::CacheOp cache : rank.getCaches()) {
    int layer = std::max(layerOf(cache.getSymName()), 0);
    table.caches.push_back(
        {layer, table.layers[size_t(layer)].latent > 0, uint64_t(cache.getBytes())});
  }
  for (plan::SlabOp slab : rank.getSlabs()) {
    if (slab.getKind() == plan::SlabKind::Arena)
      table.arenaBytes = uint64_t(slab.getBytes());
    else if (slab.getKind() == plan::SlabKind::Io)
      table.ioBytes = uint64_t(slab.getBytes());
  }
  plan::ProgramOp program;
  for (plan::ProgramOp each : rank.getPrograms())
    program = each;
  for (plan::CmdLaunchOp launch : program.getLaunches()) {
    ++table.launches;
    int layer = layerOf(launch.getLabel());
    if (layer >= 0 && size_t(layer) < table.layers.size())
      ++table.layers[size_t(layer)].launches;
  }
  return table;
}

std::vector<std::vector<std::vector<int64_t>>> readPlacement(ModuleOp placed) {
  std::vector<std::vector<std::vector<int64_t>>> result;
  placed.walk([&](moe::ExpertsOp experts) {
    auto &groups = result.emplace_back();
    if (DictionaryAttr placement = experts.getPlacementAttr())
      for (auto slots : placement.getAs<ArrayAttr>("slots").getAsRange<DenseI64ArrayAttr>())
        groups.emplace_back(slots.asArrayRef().begin(), slots.asArrayRef().end());
  });
  return result;
}

std::vector<RankSlabs> readSlabs(ModuleOp planned, const FusedFacts &facts, RankMemory &memory) {
  std::vector<RankSlabs> result;
  plan::RankOp fullest;
  uint64_t most = 0;
  for (plan::RankOp rank : planned.getOps<plan::RankOp>()) {
    RankSlabs slabs{int64_t(rank.getNumber())};
    for (plan::SlabOp slab : rank.getSlabs()) {
      switch (slab.getKind()) {
      case plan::SlabKind::Weights:
        slabs.weights = slab.getBytes();
        break;
      case plan::SlabKind::Kv:
        slabs.kv = slab.getBytes();
        break;
      case plan::SlabKind::Arena:
        slabs.arena = slab.getBytes();
        break;
      case plan::SlabKind::Io:
        slabs.io = slab.getBytes();
        break;
      }
    }
    if (!fullest || slabs.total() > most) {
      most = slabs.total();
      fullest = rank;
      memory.weights = {};
      memory.padding = slabs.weights;
      memory.kv = slabs.kv;
      memory.arena = slabs.arena;
      memory.io = slabs.io;
    }
    result.push_back(slabs);
  }
  for (plan::WeightOp weight : fullest.getWeights()) {
    memory.weights[size_t(useOf(weight, facts).role)] += uint64_t(weight.getBytes());
    memory.padding -= uint64_t(weight.getBytes());
  }
  memory.isExact = true;
  return result;
}

} // namespace sluice::planner
