//===- StepReader.h - One recipe function per moe operation ------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The state that reading a rank's function builds up, shared by the recipes of all operations. They
// stand by topic in LaunchRecipes.cpp (rows, products, steps), AttentionRecipes.cpp and
// ExpertRecipes.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_LOWERING_STEPREADER_H
#define SLUICE_PASSES_LOWERING_STEPREADER_H

#include "passes/Lowering/LaunchRecipes.h"

#include "mlir/IR/Builders.h"

namespace sluice {

/// The width of an operation's rows.
inline int64_t widthOf(mlir::Value rows) {
  return mlir::cast<mlir::RankedTensorType>(rows.getType()).getDimSize(1);
}

/// Enumerators of moe and abi have the same order (MoeDialect.td says so); only types differ.
template <typename To, typename From> To convertEnum(From value) { return To(int(value)); }

inline double toDouble(const llvm::APFloat &value) { return value.convertToDouble(); }

class StepReader {
public:
  StepReader(mlir::func::FuncOp func, plan::RankOp rank, RecipeContext &context)
      : func(func), rank(rank), context(context), rankSymbols(rank) {}

  mlir::FailureOr<StepRecipe> read();

private:
  using Binding = std::pair<llvm::StringRef, RecipeArg>;

  //===--- Values ---------------------------------------------------------===//

  /// (ids, batch) -> (logits, sampled ids): arguments and results are IO buffers.
  mlir::LogicalResult readSignature();
  RecipeArg ioArg(llvm::StringRef name, int64_t offset = 0) {
    return {RecipeArg::Io, 0, mlir::StringAttr::get(func.getContext(), name), offset};
  }
  RecipeArg newTransient(std::string name);
  /// The buffer of a value that an earlier operation computed.
  RecipeArg use(mlir::Value value) { return args.at(value); }
  /// The buffer of a result: an IO buffer where the function returns it, else a new one.
  RecipeArg define(mlir::Value result, llvm::StringRef label, llvm::StringRef leaf);
  abi::RowSet rowsOf(mlir::Value value) const {
    return logitRows.contains(value) ? abi::RowSet::kLogitRows : abi::RowSet::kTokens;
  }

  //===--- Declarations of the rank and the module ------------------------===//

  /// Declarations stand in groups: weights, caches, IO buffers.
  template <typename... FollowingOps> mlir::OpBuilder before() {
    for (mlir::Operation &op : *rank.getBlock())
      if (mlir::isa<FollowingOps...>(op))
        return mlir::OpBuilder(&op);
    return mlir::OpBuilder::atBlockEnd(rank.getBlock());
  }
  void declareIo(llvm::StringRef name, int64_t bytes);
  /// The stored form of a model weight; `ref` may be null, for an absent argument.
  mlir::FailureOr<RecipeArg> weight(mlir::Operation *op, mlir::FlatSymbolRefAttr ref,
                                    llvm::StringRef layout, llvm::StringRef format);
  /// Norm weights, biases and other vectors are stored as float32.
  mlir::FailureOr<RecipeArg> vector(mlir::Operation *op, mlir::FlatSymbolRefAttr ref) {
    return weight(op, ref, "row_major", "f32");
  }
  /// The weight of a product in the format it is stored in, and its bias.
  struct Product {
    std::string format;
    RecipeArg weight, bias;
    bool hasBias = false;
  };
  mlir::FailureOr<Product> productOf(mlir::Operation *op, mlir::FlatSymbolRefAttr weight,
                                     mlir::FlatSymbolRefAttr bias,
                                     llvm::StringRef layout = "panel16");
  /// The name of an element type in plans; reports types that no kernel reads.
  mlir::FailureOr<std::string> formatOf(mlir::Operation *op, mlir::Type element,
                                        llvm::StringRef what);
  /// The format of a packed weight: that of its codes when it is quantised and still can be.
  mlir::FailureOr<std::string> formatOf(mlir::Operation *op, mlir::FlatSymbolRefAttr ref);
  mlir::FailureOr<std::string> numbersFormatOf(mlir::Operation *op, mlir::FlatSymbolRefAttr ref);
  llvm::ArrayRef<int64_t> shapeOf(mlir::FlatSymbolRefAttr ref) const;
  /// The buffers of a cache: keys and values, or the rows of a latent one.
  struct Caches {
    RecipeArg keys, values, latents;
  };
  /// The buffers that a kernel with these parameters takes, declared by the first one, with the
  /// sizes that it states.
  mlir::FailureOr<Caches> cachesOf(mlir::Operation *op, moe::KvCacheOp source,
                                   const abi::FamilyParams &params);
  mlir::FlatSymbolRefAttr kernel(const abi::FamilyParams &params);
  /// The table of a rotation as a constant weight, and the parameters that go with it.
  struct Rope {
    RecipeArg frequencies;
    abi::RopeParams params;
  };
  mlir::FailureOr<Rope> rope(mlir::Operation *op, moe::RopeAttr attr);

  //===--- Launches -------------------------------------------------------===//

  /// Appends the launch of a kernel with `bound` arguments.
  mlir::LogicalResult launch(mlir::Operation *op, const abi::FamilyParams &params,
                             llvm::StringRef label, llvm::ArrayRef<Binding> bound);
  /// What a product with a weight of `format` multiplies: `x`, rounded by a launch of its own where
  /// the module asks for it.
  mlir::FailureOr<RecipeArg> productInput(mlir::Operation *op, mlir::Value x,
                                          llvm::StringRef format, llvm::StringRef label);
  mlir::LogicalResult readOp(mlir::Operation *op);
  /// Appends an exchange of rows; with data parallel groups, of as many as each group has.
  mlir::LogicalResult exchange(mlir::Operation *op, plan::CollectiveKind kind,
                               llvm::ArrayRef<int64_t> ranks);

  mlir::LogicalResult lower(moe::EmbeddingOp op);
  mlir::LogicalResult lower(moe::NormOp op);
  mlir::LogicalResult lower(moe::ResidualNormOp op);
  mlir::LogicalResult lower(moe::ResidualOp op);
  mlir::LogicalResult lower(moe::LinearOp op);
  mlir::LogicalResult lower(moe::SelectRowsOp op);
  mlir::LogicalResult lower(moe::SampleOp op);
  mlir::LogicalResult lower(moe::QkvOp op);
  mlir::LogicalResult lower(moe::AttentionOp op);
  mlir::LogicalResult lower(moe::TemperatureOp op);
  mlir::LogicalResult lower(moe::LatentQueryOp op);
  mlir::LogicalResult lower(moe::LatentAppendOp op);
  mlir::LogicalResult lower(moe::AbsorbedAttentionOp op);
  mlir::LogicalResult lower(moe::RouterOp op);
  mlir::LogicalResult lower(moe::ExpertsGateUpOp op);
  mlir::LogicalResult lower(moe::ExpertsDownOp op);
  mlir::LogicalResult lower(moe::FfnGateUpOp op);
  mlir::LogicalResult lower(moe::SigmoidGateOp op);
  mlir::LogicalResult lower(moe::AssignSlotsOp op);
  mlir::LogicalResult lower(moe::AllReduceOp op);
  mlir::LogicalResult lower(moe::AllGatherOp op);
  mlir::LogicalResult lower(moe::ReduceScatterOp op);

  /// "layers.0.attn." of "layers.0.attn.kv"; empty for a name without dots.
  static std::string parentOf(llvm::StringRef name);
  /// A label for an operation without a weight: next to the launch that made its operand.
  std::string labelAfter(mlir::Value operand, llvm::StringRef leaf);
  /// Whether the operation works on rows of all data parallel groups.
  bool isGathered(mlir::Operation *op) const {
    return llvm::any_of(op->getOperands(),
                        [&](mlir::Value operand) { return gathered.contains(operand); });
  }

  struct Dispatch {
    RecipeArg offsets, order, inverse;
    int64_t experts = 0, topK = 0;
  };

  mlir::func::FuncOp func;
  plan::RankOp rank;
  RecipeContext &context;
  mlir::SymbolTable rankSymbols;
  StepRecipe recipe;
  llvm::DenseMap<mlir::Value, RecipeArg> args;
  llvm::DenseMap<mlir::Value, Dispatch> dispatches;
  llvm::DenseMap<mlir::Attribute, mlir::StringAttr> weights;
  llvm::DenseMap<mlir::Value, RecipeArg> rounded; ///< activations as productInput() made them
  llvm::DenseSet<mlir::Value> logitRows;
  llvm::DenseSet<mlir::Value> gathered; ///< rows of all data parallel groups
  int64_t routers = 0;
};

} // namespace sluice

#endif // SLUICE_PASSES_LOWERING_STEPREADER_H
