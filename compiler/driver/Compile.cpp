//===- Compile.cpp - From a checkpoint to an artifact -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/driver/Compile.h"

#include "compiler/artifact/EmitArtifact.h"
#include "compiler/driver/PlanPhase.h"
#include "compiler/driver/Report.h"
#include "compiler/importers/ModelImporter.h"
#include "compiler/importers/QuantScheme.h"
#include "compiler/pipelines/Pipelines.h"
#include "dialects/Moe/Moe.h"
#include "dialects/Plan/Plan.h"
#include "runtime/artifact/KernelFamilies.h"
#include "runtime/base/File.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace sluice {

namespace {

constexpr char kArtifactPhase[] = "artifact";

std::string formatDiagnostic(Diagnostic &diag) {
  auto line = [](StringRef kind, Location location, const std::string &message) {
    std::string place;
    if (auto file = dyn_cast<FileLineColLoc>(location)) {
      place = file.getFilename().str();
      if (file.getLine() > 0)
        place += ":" + std::to_string(file.getLine()) + ":" + std::to_string(file.getColumn());
      place += ": ";
    }
    return place + kind.str() + ": " + message;
  };
  StringRef kind = diag.getSeverity() == DiagnosticSeverity::Error     ? "error"
                   : diag.getSeverity() == DiagnosticSeverity::Warning ? "warning"
                                                                       : "note";
  std::string text = line(kind, diag.getLocation(), diag.str());
  for (Diagnostic &note : diag.getNotes())
    text += "\n  " + line("note", note.getLocation(), note.str());
  return text;
}

/// One compilation: state that its steps share.
class Compilation {
public:
  Compilation(const CompileOptions &options, const CompileHooks &hooks)
      : options(options), hooks(hooks) {
    DialectRegistry registry;
    registry.insert<func::FuncDialect, moe::MoeDialect, plan::PlanDialect>();
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    // Verification between passes is ours (VerifyPhase) and MLIR's own; threads would only reorder
    // diagnostics of modules this small.
    context.disableMultithreading();
    // A diagnostic names what is wrong; the whole module printed after it would bury that.
    context.printOpOnDiagnostic(false);
    context.getDiagEngine().registerHandler([this](Diagnostic &diag) {
      std::string text = formatDiagnostic(diag);
      if (diag.getSeverity() == DiagnosticSeverity::Error && firstError.empty())
        firstError = text;
      if (this->hooks.diagnostic)
        this->hooks.diagnostic(text);
      return success();
    });
  }

  Status run() {
    SLUICE_RETURN_IF_ERROR(checkOptions());
    SLUICE_RETURN_IF_ERROR(loadModel());
    for (int phase = 0; phase <= int(Phase::Planned); ++phase) {
      SLUICE_RETURN_IF_ERROR(runPhase(Phase(phase)));
      if (options.compileTo == phaseName(Phase(phase)))
        return printModule();
      if (Phase(phase) == Phase::Quantized && firstPhase <= Phase::Quantized)
        SLUICE_RETURN_IF_ERROR(decideShape());
    }
    return writeArtifact();
  }

  /// Goes as far as the formats are chosen, and plans the rest.
  Status plan(const PlanOptions &plan, planner::PlanReport &report) {
    SLUICE_ASSIGN_OR_RETURN(Target target, resolveTarget(options.target, plan));
    if (options.kvType.empty())
      options.kvType = target.kind == "host" ? "f32" : "bf16";
    options.compileTo = phaseName(Phase::Quantized).str();
    SLUICE_RETURN_IF_ERROR(checkOptions());
    SLUICE_RETURN_IF_ERROR(loadModel());
    if (firstPhase > Phase::Placed)
      return invalidArgument("the module is past the phase that planning starts from, " +
                             phaseName(Phase::Quantized).str());
    for (Phase phase : {Phase::Input, Phase::Normalized, Phase::Quantized})
      SLUICE_RETURN_IF_ERROR(runPhase(phase));
    SLUICE_RETURN_IF_ERROR(planWith(plan, report));
    return planner::refusalOf(report.decision, report.model);
  }

private:
  Status planWith(const PlanOptions &plan, planner::PlanReport &report) {
    auto lower = [&](ModuleOp copy, Phase first, Phase last, const CompileOptions &shaped) {
      PassManager pm(&context);
      for (int phase = int(first); phase <= int(last); ++phase)
        buildPhasePipeline(pm, Phase(phase), phaseOptionsOf(shaped));
      return pm.run(copy);
    };
    return planQuantized(*module, options, plan, lower, report);
  }

  /// Memory verdict before any weight is read. Host ranks page their weights in, so that only
  /// devices refuse; a device target also chooses what was left open.
  Status decideShape() {
    PlanOptions plan;
    SLUICE_ASSIGN_OR_RETURN(Target target, resolveTarget(options.target, plan));
    if (target.kind == "host")
      return Status::ok();
    bool isOpen = options.ranks == 1 && target.countIsFixed;
    plan.request.ranks = isOpen ? target.devices() : options.ranks;
    plan.request.tp = options.tp;
    plan.request.ep = options.ep;
    plan.request.slots = options.slots;
    plan.request.dp = options.dp > 1 || !isOpen ? options.dp : 0;
    planner::PlanReport report;
    SLUICE_RETURN_IF_ERROR(planWith(plan, report));
    SLUICE_RETURN_IF_ERROR(planner::refusalOf(report.decision, report.model));
    const planner::ParallelShape &shape = report.decision.subject()->shape;
    options.ranks = shape.ranks();
    options.tp = shape.tp;
    options.ep = shape.ep;
    options.dp = shape.dp;
    if (options.compileTo == kArtifactPhase)
      return unsupported("target \"" + options.target +
                         "\" has no kernels in this build; plan for "
                         "it with sluice-plan, or compile for host");
    return Status::ok();
  }

  Status checkOptions() {
    if (options.model.empty())
      return invalidArgument("no model; give a checkpoint folder or a .mlir file");
    if (options.compileTo != kArtifactPhase && !parsePhase(options.compileTo))
      return invalidArgument("unknown phase \"" + options.compileTo + "\"; known are " +
                             llvm::join(listPhases(), ", "));
    if (options.compileTo == kArtifactPhase && options.output.empty())
      return invalidArgument("no output; give -o NAME.sluice, or stop earlier with --compile-to");
    SLUICE_RETURN_IF_ERROR(findTarget(options.target).status());
    SLUICE_RETURN_IF_ERROR(parseQuantizeChoice(options.quantize).status());
    if (!options.dumpPhasesTo.empty())
      if (std::error_code error = llvm::sys::fs::create_directories(options.dumpPhasesTo))
        return ioError("cannot create " + options.dumpPhasesTo + ": " + error.message());
    return Status::ok();
  }

  Status loadModel() {
    if (StringRef(options.model).ends_with(".mlir"))
      return loadText();
    FailureOr<Checkpoint> opened =
        openCheckpoint(options.model, options.weights == "synthetic", context);
    if (failed(opened))
      return failedStatus("the checkpoint cannot be read");
    checkpoint = std::move(*opened);
    ImportOptions import;
    import.target = options.target;
    import.kvType = options.kvType;
    import.maxBatchTokens = options.maxBatchTokens;
    import.maxSeqs = options.maxSeqs;
    import.maxSeqLen = options.maxSeqLen;
    import.maxLogitRows = options.maxLogitRows;
    import.pageSize = options.pageSize;
    import.numPages = options.numPages;
    FailureOr<OwningOpRef<ModuleOp>> imported = importCheckpoint(*checkpoint, import, context);
    if (failed(imported))
      return failedStatus("the checkpoint cannot be imported");
    module = std::move(*imported);
    return Status::ok();
  }

  Status loadText() {
    module = parseSourceFile<ModuleOp>(options.model, ParserConfig(&context));
    if (!module)
      return failedStatus("the module cannot be read");
    if (auto phase = (*module)->getAttrOfType<StringAttr>(moe::MoeDialect::getPhaseAttrName()))
      if (std::optional<Phase> parsed = parsePhase(phase.getValue()))
        firstPhase = Phase(int(*parsed) + 1);
    if (options.checkpoint.empty()) {
      checkpoint = Checkpoint::empty();
      return Status::ok();
    }
    FailureOr<Checkpoint> opened = openCheckpoint(options.checkpoint, false, context);
    if (failed(opened))
      return failedStatus("the checkpoint cannot be read");
    checkpoint = std::move(*opened);
    return Status::ok();
  }

  static PhaseOptions phaseOptionsOf(const CompileOptions &options) {
    PhaseOptions phaseOptions;
    phaseOptions.weights = *parseQuantizeChoice(options.quantize); // checkOptions() has tried it
    phaseOptions.quantizeExclude = options.quantizeExclude;
    phaseOptions.quantizeSkipUnfit = options.quantizeSkipUnfit;
    phaseOptions.activations = options.activations;
    phaseOptions.ranks = options.ranks;
    phaseOptions.tp = options.tp;
    phaseOptions.ep = options.ep;
    phaseOptions.dp = options.dp;
    phaseOptions.slots = options.slots;
    phaseOptions.profiles = options.profiles;
    phaseOptions.placementPhase = options.placementPhase;
    phaseOptions.buckets = options.buckets;
    return phaseOptions;
  }

  Status runPhase(Phase phase) {
    if (phase >= firstPhase) {
      PassManager pm(&context);
      buildPhasePipeline(pm, phase, phaseOptionsOf(options));
      if (failed(pm.run(*module)))
        return failedStatus(("phase " + phaseName(phase) + " failed").str());
    }
    if (options.dumpPhasesTo.empty())
      return Status::ok();
    std::string number = std::to_string(int(phase));
    SmallString<128> path(options.dumpPhasesTo);
    llvm::sys::path::append(path, number + "-" + phaseName(phase) + ".mlir");
    return writeFile(std::string(path), moduleText());
  }

  std::string moduleText() {
    std::string text;
    llvm::raw_string_ostream stream(text);
    module->print(stream);
    stream << "\n";
    return text;
  }

  Status printModule() {
    if (!options.report.empty() && options.compileTo == phaseName(Phase::Planned))
      SLUICE_RETURN_IF_ERROR(writeFile(options.report, makeReport(*module).dump(2) + "\n"));
    if (hooks.module)
      hooks.module(moduleText());
    return Status::ok();
  }

  Status writeArtifact() {
    json::Value decided = makeReport(*module);
    if (!options.qualityReport.empty()) {
      SLUICE_ASSIGN_OR_RETURN(json::Value quality,
                              json::parse(options.qualityReport, "the quality report"));
      decided.set("quality", std::move(quality));
    }
    std::string report = decided.dump(2) + "\n";
    EmitOptions emit;
    emit.report = report;
    if (hooks.progress)
      emit.progress = [this](uint64_t done, uint64_t total) {
        hooks.progress("writing weights", done, total);
      };
    SLUICE_RETURN_IF_ERROR(emitArtifact(*module, *checkpoint, options.output, emit));
    if (!options.report.empty())
      SLUICE_RETURN_IF_ERROR(writeFile(options.report, report));
    return Status::ok();
  }

  /// The diagnostics have said what is wrong; the status sums up.
  Status failedStatus(const std::string &what) const {
    if (firstError.empty())
      return internalError(what + " without a diagnostic");
    return invalidArgument(hooks.diagnostic ? what + "; see the errors above"
                                            : what + ": " + firstError);
  }

  CompileOptions options; ///< what was left open is filled in as it is decided
  const CompileHooks &hooks;
  MLIRContext context;
  std::optional<Checkpoint> checkpoint;
  OwningOpRef<ModuleOp> module;
  Phase firstPhase = Phase::Input;
  std::string firstError;
};

} // namespace

Status compileModel(const CompileOptions &options, const CompileHooks &hooks) {
  return Compilation(options, hooks).run();
}

std::vector<std::string> listPhases() {
  std::vector<std::string> result;
  for (StringRef name : allPhaseNames())
    result.push_back(name.str());
  result.push_back(kArtifactPhase);
  return result;
}

std::vector<std::string> listModels() {
  std::vector<std::string> result;
  for (const ModelFamily &family : allModelFamilies())
    result.push_back((family.name + ": " + llvm::join(family.architectures, ", ")).str());
  result.push_back("");
  result.push_back("stored formats: F32, BF16, F16; of quantized linear layers, by quant_method:");
  for (const QuantFormatInfo &info : allQuantFormats())
    result.push_back(std::string("  ") + info.method + ": " + info.formats);
  return result;
}

Status planModel(const CompileOptions &options, const PlanOptions &plan, const CompileHooks &hooks,
                 planner::PlanReport &report) {
  return Compilation(options, hooks).plan(plan, report);
}

std::vector<std::string> listTargets() { return describeTargets(); }

std::vector<std::string> listKernels() {
  std::vector<std::string> result;
  for (const abi::FamilyParams &family : abi::allFamilies()) {
    std::string line = std::string(abi::familyName(family)) + ":";
    for (const abi::ArgSpec &arg : abi::familyArgs(family))
      line += std::string(" ") + arg.name;
    result.push_back(line);
  }
  return result;
}

} // namespace sluice
