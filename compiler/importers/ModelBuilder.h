//===- ModelBuilder.h - Building blocks of imported models --------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// What a family's importer is written with. A block adds one or two operations and returns their
// value; which blocks follow each other, and where their weights are called what, is the family's
// file and nothing else. Weights are checked against the checkpoint's headers as they are asked
// for: existence, shape, type; and what nobody asks for is reported at the end.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_IMPORTERS_MODELBUILDER_H
#define SLUICE_COMPILER_IMPORTERS_MODELBUILDER_H

#include "compiler/importers/DecoderConfig.h"
#include "compiler/importers/ModelImporter.h"
#include "compiler/importers/QuantScheme.h"
#include "compiler/importers/checkpoint/Checkpoint.h"
#include "compiler/importers/checkpoint/ConfigReader.h"
#include "dialects/Moe/Moe.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

/// One layer's grouped attention against its cache.
struct AttentionSpec {
  int64_t heads = 0, kvHeads = 0, headDim = 0, valueDim = 0;
  double scale = 0;
  int64_t window = 0;                 ///< latest positions a query sees; 0 = all
  int64_t chunk = 0;                  ///< a query sees its own chunk of positions only; 0 = all
  mlir::FlatSymbolRefAttr sinks = {}; ///< one extra logit per head [heads]; may be null
};

/// One layer's multi-head latent attention. A query head is [nope | rope]; what is cached of a
/// position is [latent | rope], for all heads together.
struct LatentAttentionSpec {
  int64_t heads = 0, latentDim = 0, nopeDim = 0, ropeDim = 0, valueDim = 0;
  double scale = 0;
};

/// Weights of a gated feed-forward part: gate and up [I, H], down [H, I], biases [I], [I], [H]; of
/// routed experts with a leading axis of experts. Biases may be null, gate's and up's together.
struct GatedWeights {
  mlir::FlatSymbolRefAttr gate, up, down, gateBias = {}, upBias = {}, downBias = {};
};

/// A norm over the model's width. Kind layer may have a bias; rms has none.
struct NormSpec {
  mlir::FlatSymbolRefAttr weight, bias = {};
  double eps = 0;
  moe::NormKind kind = moe::NormKind::Rms;
};

/// What turns the last layer's activations into logits: scale * (norm(x) · head^T + bias).
struct HeadSpec {
  NormSpec norm;
  mlir::FlatSymbolRefAttr weight, bias = {};
  double scale = 1;
};

/// Builds one model module. Use: read config(), begin(), blocks layer by layer, finish(). Errors
/// are emitted as diagnostics when they are found; building continues with what should have been
/// there, so that one run reports several, and finish() fails. Not thread-safe.
class ModelBuilder {
public:
  ModelBuilder(const Checkpoint &checkpoint, const ImportOptions &options,
               const ModelFamily &family, mlir::MLIRContext &context);

  mlir::MLIRContext &context() { return *module->getContext(); }
  const Checkpoint &checkpoint() const { return source; }
  /// The root of config.json.
  ConfigReader &config() { return reader; }

  /// Ends the reading of the configuration: reports its problems, among them every key that nobody
  /// read, and fails when there is any. Otherwise opens @step; the blocks append to it.
  mlir::LogicalResult begin(const DecoderConfig &sizes, int64_t numExperts, int64_t topK,
                            SpecialTokens tokens);
  /// The step's token ids, tensor<?xi32>.
  mlir::Value tokenIds() { return step.getArgument(0); }

  /// From here on, symbols are named layers.<layer>.<symbol> and keys begin with `keyPrefix`.
  void enterLayer(int64_t layer, llvm::StringRef keyPrefix);
  /// Back to names without prefix.
  void leaveLayers();

  //===--- Weights
  //------------------------------------------------------------------------------===//

  /// Expression of the checkpoint tensor `key`, which must have `shape` and a type we can store.
  mlir::TypedAttr tensor(llvm::StringRef key, llvm::ArrayRef<int64_t> shape);
  /// Expression of `count` tensors of equal shape and type, stacked; `{}` in `pattern` is the
  /// index.
  mlir::TypedAttr stackedTensors(llvm::StringRef pattern, int64_t count,
                                 llvm::ArrayRef<int64_t> shape);
  /// Expression of the numbers of `<key>_blocks` [..., K / 32, 16] and `<key>_scales` [..., K /
  /// 32]: rows of K 4-bit codes with a power of two per 32, as gpt-oss stores its experts. `shape`
  /// is that of the numbers, [..., K].
  mlir::TypedAttr mxfp4Tensor(llvm::StringRef key, llvm::ArrayRef<int64_t> shape);
  /// How the configuration says that the checkpoint is quantised. Where tensor() and
  /// stackedTensors() are asked for a matrix of a quantised module, they return the expression of
  /// its numbers; families need not know.
  const QuantScheme &quantization() const { return scheme; }
  /// Every `stride`-th of `size` rows of an axis: checkpoints that store several weights in one
  /// tensor are taken apart here, not in the activations.
  static mlir::TypedAttr slice(mlir::TypedAttr weight, int64_t axis, int64_t begin, int64_t size,
                               int64_t stride = 1);
  static mlir::TypedAttr transpose(mlir::TypedAttr weight, llvm::ArrayRef<int64_t> permutation);
  static mlir::TypedAttr reshape(mlir::TypedAttr weight, llvm::ArrayRef<int64_t> shape);
  /// Names an expression.
  mlir::FlatSymbolRefAttr define(llvm::StringRef symbol, mlir::TypedAttr value);
  /// define(symbol, tensor(key, shape)).
  mlir::FlatSymbolRefAttr weight(llvm::StringRef symbol, llvm::StringRef key,
                                 llvm::ArrayRef<int64_t> shape);
  /// Tensors that a checkpoint of this family may hold although the model does not use them. The
  /// pattern is a full key in which `*` stands for any characters. Where their absence from the
  /// model deserves mention, `what` they are is reported as a remark, with their number.
  void ignoreTensors(llvm::StringRef pattern, llvm::StringRef what = "") {
    ignoredTensors.push_back({pattern.str(), what.str()});
  }

  //===--- Blocks: activations are tensor<?xWxf32>
  //-----------------------------------------------===//

  mlir::Value embedding(mlir::FlatSymbolRefAttr table, double multiplier = 1);
  mlir::Value norm(mlir::Value x, const NormSpec &spec);
  /// Root-mean-square norm of every row, or of `groups` equal parts of every row.
  mlir::Value rmsNorm(mlir::Value x, mlir::FlatSymbolRefAttr weight, double eps,
                      int64_t groups = 1);
  /// Division of `groups` equal parts of every row by their root mean square.
  mlir::Value l2Norm(mlir::Value x, double eps, int64_t groups);
  /// x · W^T (+ bias); the width of the result is the weight's first dimension.
  mlir::Value linear(mlir::Value x, mlir::FlatSymbolRefAttr weight,
                     mlir::FlatSymbolRefAttr bias = {}, double scale = 1);
  /// Every entry limited to [-limit, limit].
  mlir::Value clamp(mlir::Value x, double limit);
  mlir::Value rope(mlir::Value x, int64_t heads, moe::RopeAttr rope);
  /// x * (1 + scale * ln(1 + floor((position + offset) / floorScale))).
  mlir::Value temperature(mlir::Value x, double scale, double floorScale, int64_t offset = 1);
  /// Declares the layer's cache as `kv`, appends keys and values to it and attends.
  mlir::Value attention(mlir::Value query, mlir::Value key, mlir::Value value,
                        const AttentionSpec &spec);
  /// The same with a latent cache: `latent` is normalised, `rotated` the shared rope part of the
  /// keys, `kvB` [heads * (nope + value), latent].
  mlir::Value latentAttention(mlir::Value query, mlir::Value latent, mlir::Value rotated,
                              mlir::FlatSymbolRefAttr kvB, const LatentAttentionSpec &spec);
  /// residual + multiplier * delta.
  mlir::Value residual(mlir::Value residual, mlir::Value delta, double multiplier = 1);
  /// Expert ids and weights from router logits. `correction` [experts] is added to the scores for
  /// the choice only.
  std::pair<mlir::Value, mlir::Value> route(mlir::Value logits, moe::RoutingAttr routing,
                                            mlir::FlatSymbolRefAttr correction = {});
  /// Routed gated feed-forward part. `weightOnInput` multiplies a token by its weight before the
  /// expert instead of after it.
  mlir::Value experts(mlir::Value x, std::pair<mlir::Value, mlir::Value> routed,
                      const GatedWeights &weights, moe::ActivationAttr activation,
                      bool weightOnInput = false);
  /// Dense gated feed-forward part.
  mlir::Value ffn(mlir::Value x, const GatedWeights &weights, moe::ActivationAttr activation);
  /// y * sigmoid(x · weight^T) with weight [1, width of x].
  mlir::Value sigmoidGate(mlir::Value y, mlir::Value x, mlir::FlatSymbolRefAttr weight);

  /// Ends @step: wanted rows of `hidden`, logits, sampling; then the module's attributes. Reports
  /// tensors that nobody asked for. Fails if anything was reported.
  mlir::LogicalResult finish(mlir::Value hidden, const HeadSpec &head);

  mlir::OwningOpRef<mlir::ModuleOp> take() { return std::move(module); }

private:
  mlir::Location locate(llvm::StringRef part);
  moe::KvCacheOp declareCache(int64_t heads, int64_t headDim, int64_t valueDim, bool latent);
  mlir::Location locateKey(llvm::StringRef key);
  mlir::Location locateFile(llvm::StringRef file);
  mlir::RankedTensorType rows(int64_t width);
  mlir::RankedTensorType weightType(mlir::FlatSymbolRefAttr weight);
  mlir::Value batch() { return step.getArgument(1); }
  /// The tensor, checked; nothing (after a diagnostic) when it is not as expected.
  std::optional<CheckpointTensor> request(llvm::StringRef key, llvm::ArrayRef<int64_t> shape,
                                          llvm::ArrayRef<DataType> types);
  /// The tensor `pattern`, or the stack of `count` tensors when count > 0, of one of the types.
  mlir::TypedAttr leaf(llvm::StringRef pattern, int64_t count, llvm::ArrayRef<int64_t> shape,
                       llvm::ArrayRef<DataType> types);
  /// The same for numbers, however they are stored.
  mlir::TypedAttr numbers(llvm::StringRef pattern, int64_t count, llvm::ArrayRef<int64_t> shape);
  /// Sets `group` when the module's weight is stored quantised; fails after a diagnostic.
  mlir::LogicalResult findStorage(llvm::StringRef module, int64_t count,
                                  llvm::ArrayRef<int64_t> shape, const QuantGroup *&group);
  mlir::TypedAttr quantizedMatrix(const QuantGroup &group, llvm::StringRef module, int64_t count,
                                  int64_t rows, int64_t columns);
  friend class QuantizedReader;
  mlir::Type elementType(DataType type);
  mlir::Type syntheticType();
  void reportTensor(llvm::StringRef file, const std::string &message, llvm::StringRef note);
  void reportConfig();
  void reportUnused();
  mlir::LogicalResult setLimits();
  void setModelInfo();

  const Checkpoint &source;
  const ImportOptions &options;
  const ModelFamily &family;
  ConfigReader reader;
  // What the module says about the model as a whole (moe.model).
  DecoderConfig sizes;
  int64_t numExperts = 0, topK = 0;
  SpecialTokens tokens;
  QuantScheme scheme;

  mlir::OwningOpRef<mlir::ModuleOp> module;
  mlir::func::FuncOp step;
  mlir::OpBuilder builder;      ///< at the end of @step
  mlir::OpBuilder declarations; ///< before @step
  mlir::SymbolTable symbols;
  std::string symbolPrefix, keyPrefix;
  std::vector<bool> used; ///< by position in Checkpoint::tensors()
  struct IgnoredTensors {
    std::string pattern, what;
    int64_t count = 0;
  };
  std::vector<IgnoredTensors> ignoredTensors;
  int64_t numErrors = 0;
};

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_MODELBUILDER_H
