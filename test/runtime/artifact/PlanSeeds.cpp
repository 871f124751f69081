//===- PlanSeeds.cpp - Seed corpus of the plan fuzz target ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// usage: sluice_plan_seeds DIRECTORY
// Writes plan.pb of tiny models, so that mutations start from plans that validate.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/File.h"
#include "test/runtime/artifact/ArtifactBuilder.h"

#include <cstdio>
#include <filesystem>

using namespace sluice;

static Status writeSeed(const std::string &directory, const std::string &name,
                        const test::TinyShape &shape) {
  const std::string artifact = directory + "/" + name + ".sluice";
  SLUICE_RETURN_IF_ERROR(test::writeArtifact(artifact, test::makeTinyModel(shape)));
  SLUICE_ASSIGN_OR_RETURN(std::string plan, readFile(artifact + "/plan.pb"));
  std::error_code ignored;
  std::filesystem::remove_all(artifact, ignored);
  return writeFile(directory + "/" + name, plan);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  Status status = writeSeed(argv[1], "moe", {.buckets = {16}});
  if (status.isOk())
    status = writeSeed(argv[1], "plain", {.layers = 0});
  if (status.isOk())
    status = writeSeed(argv[1], "latent", {.buckets = {16}, .latent = true});
  for (int dp = 1; status.isOk() && dp <= 2; ++dp)
    status = writeSeed(argv[1], "ranks-dp" + std::to_string(dp),
                       {.expertWidth = 32, .buckets = {16}, .ranks = 2, .dp = dp});
  if (status.isOk())
    status =
        writeSeed(argv[1], "ranks-ep2", {.expertWidth = 32, .buckets = {16}, .ranks = 2, .ep = 2});
  if (!status.isOk())
    std::fprintf(stderr, "%s\n", status.toString().c_str());
  return status.isOk() ? 0 : 1;
}
