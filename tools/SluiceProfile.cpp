//===- SluiceProfile.cpp - Profiles of expert use ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Records profiles from real prompts, brings those of other systems into our format, and tells what
// is in them and how far they lie apart.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/File.h"
#include "runtime/evaluation/RoutingRecorder.h"
#include "runtime/profile/ProfileFile.h"
#include "sluice/tokenizer.h"
#include "tools/support/Cli.h"

#include <cstdio>
#include <filesystem>

using namespace sluice;

namespace {

struct ProfileOptions {
  std::vector<std::string> inputs;
  std::string output, model, artifact;
  int devices = 8, slots = 0, topK = 0, window = 512, threads = 0;
  bool quiet = false;
};

Result<std::vector<Profile>> readAll(const std::vector<std::string> &paths) {
  std::vector<Profile> profiles;
  for (const std::string &path : paths) {
    SLUICE_ASSIGN_OR_RETURN(Profile profile, readProfile(path));
    profiles.push_back(std::move(profile));
  }
  return profiles;
}

void printSizes(const Profile &profile, const std::string &name) {
  std::printf("%s: %s%d layers, %d experts", name.c_str(),
              profile.model.empty() ? "" : (profile.model + ", ").c_str(), profile.layers,
              profile.experts);
  if (profile.topK)
    std::printf(", top-%d", profile.topK);
  std::printf(", %d %s\n", profile.windows, profile.windows == 1 ? "window" : "windows");
}

Status merge(const ProfileOptions &options) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<Profile> profiles, readAll(options.inputs));
  SLUICE_ASSIGN_OR_RETURN(Profile merged, mergeProfiles(profiles, options.inputs));
  if (!options.model.empty())
    merged.model = options.model;
  if (options.topK > 0)
    merged.topK = options.topK;
  SLUICE_RETURN_IF_ERROR(writeProfile(merged, options.output));
  if (!options.quiet)
    printSizes(merged, options.output);
  return Status::ok();
}

Status inspect(const ProfileOptions &options) {
  for (const std::string &path : options.inputs) {
    SLUICE_ASSIGN_OR_RETURN(Profile profile, readProfile(path));
    printSizes(profile, path);
    for (const ProfileDomain &domain : profile.domains)
      std::printf("domain %-12s %lld tokens\n", domain.name.c_str(),
                  (long long)profile.tokens(domain));
    std::vector<LayerSkew> layers = inspectProfile(profile);
    std::printf("%zu of %d layers route tokens\n", layers.size(), profile.layers);
    std::printf("%-6s %9s %10s %8s %7s", "layer", "heaviest", "top tenth", "entropy", "unused");
    if (profile.topK)
      for (int batch : kDistinctBatches)
        std::printf("  B=%-4d", batch);
    std::printf("\n");
    for (const LayerSkew &skew : layers) {
      std::printf("%-6d %9.3f %9.1f%% %8.4f %7d", skew.layer, skew.heaviest, 100 * skew.topTenth,
                  skew.entropy, skew.unused);
      for (double distinct : skew.distinct)
        std::printf(" %7.1f", distinct);
      std::printf("\n");
    }
  }
  return Status::ok();
}

Status compare(const ProfileOptions &options) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<Profile> profiles, readAll(options.inputs));
  SLUICE_RETURN_IF_ERROR(
      checkSameModel(profiles[0], options.inputs[0], profiles[1], options.inputs[1]));
  int slots = options.slots ? options.slots : profiles[0].experts;
  SLUICE_ASSIGN_OR_RETURN(ProfileDrift drift,
                          compareProfiles(profiles[0], profiles[1], options.devices, slots));
  std::printf("placements on %d devices with %d slots; load of the fullest device over the mean\n",
              options.devices, slots);
  std::printf("%-6s %16s %12s %13s %10s\n", "layer", "total variation", "correlation",
              "carried over", "refitted");
  for (const ProfileDrift::Layer &layer : drift.layers)
    std::printf("%-6d %16.4f %12.4f %13.4f %10.4f\n", layer.layer, layer.totalVariation,
                layer.correlation, layer.carriedOver, layer.refitted);
  std::printf("%-6s %16.4f %12.4f %13.4f %10.4f\n", "mean", drift.totalVariation, drift.correlation,
              drift.carriedOver, drift.refitted);
  return Status::ok();
}

Status record(const ProfileOptions &options) {
  LoadOptions load;
  load.threads = options.threads;
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::load(options.artifact, load));
  SLUICE_ASSIGN_OR_RETURN(std::string json, engine->readArtifactFile("tokenizer.json"));
  SLUICE_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::fromJson(json, "tokenizer.json"));
  std::vector<RecordedText> texts;
  for (const std::string &path : options.inputs) {
    SLUICE_ASSIGN_OR_RETURN(std::string text, readFile(path));
    SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> tokens,
                            tokenizer.encode(text, /*addSpecial=*/false));
    texts.push_back({std::filesystem::path(path).stem().string(), std::move(tokens)});
  }
  cli::Progress progress(!options.quiet);
  SLUICE_ASSIGN_OR_RETURN(
      Profile profile,
      recordRouting(*engine, texts, options.window, [&](int64_t done, int64_t total) {
        progress.update("recording", uint64_t(done), uint64_t(total));
      }));
  progress.finish();
  if (!options.model.empty())
    profile.model = options.model;
  SLUICE_RETURN_IF_ERROR(writeProfile(profile, options.output));
  if (!options.quiet)
    printSizes(profile, options.output);
  return Status::ok();
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Records, converts, merges, inspects and compares profiles of expert use.");
  cli::setUp(app, "sluice-profile");
  app.require_subcommand(1);
  ProfileOptions options;

  auto addOutput = [&](CLI::App *command) {
    command->add_option("-o,--output", options.output, "profile to write; replaced as a whole")
        ->required();
    command->add_option("--model", options.model, "name of the model to note in the profile");
    command->add_flag("--quiet", options.quiet, "no summary, no progress");
  };
  CLI::App *recordCommand = app.add_subcommand("record", "run an artifact over texts");
  recordCommand->add_option("artifact", options.artifact, "artifact folder, NAME.sluice")
      ->required();
  recordCommand->add_option("texts", options.inputs, "text files; each is a domain by its name")
      ->required();
  recordCommand->add_option("--window", options.window, "tokens of one context")
      ->check(CLI::PositiveNumber);
  recordCommand->add_option("--threads", options.threads, "host threads, 0 = all")
      ->check(CLI::NonNegativeNumber);
  addOutput(recordCommand);

  CLI::App *importCommand = app.add_subcommand(
      "import", "read a profile of SGLang or TensorRT-LLM, or bare traces, and write ours");
  importCommand->add_option("profile", options.inputs, "file or folder")->required()->expected(1);
  importCommand->add_option("--top-k", options.topK, "experts per token, where it is not written")
      ->check(CLI::PositiveNumber);
  addOutput(importCommand);

  CLI::App *mergeCommand = app.add_subcommand("merge", "join profiles of one model, windows apart");
  mergeCommand->add_option("profiles", options.inputs, "profiles of any format")->required();
  addOutput(mergeCommand);

  CLI::App *inspectCommand = app.add_subcommand("inspect", "print sizes and skew, layer by layer");
  inspectCommand->add_option("profiles", options.inputs, "profiles of any format")->required();

  CLI::App *compareCommand = app.add_subcommand("compare", "print the drift between two profiles");
  compareCommand->add_option("profiles", options.inputs, "two profiles, before and after")
      ->required()
      ->expected(2);
  compareCommand->add_option("--devices", options.devices, "devices of the placements compared")
      ->check(CLI::PositiveNumber);
  compareCommand->add_option("--slots", options.slots, "slots of them, 0 = one per expert")
      ->check(CLI::NonNegativeNumber);

  if (int code = cli::parse(app, argc, argv); code >= 0)
    return code;
  Status status;
  if (*recordCommand)
    status = record(options);
  else if (*inspectCommand)
    status = inspect(options);
  else if (*compareCommand)
    status = compare(options);
  else
    status = merge(options); // an import is a merge of one
  return cli::exitWith("sluice-profile", status);
}
