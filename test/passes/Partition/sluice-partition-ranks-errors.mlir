// RUN: sluice-opt --sluice-partition-ranks %s -verify-diagnostics -split-input-file

// expected-error@+1 {{no model function @step to partition}}
module {
}

// -----

// expected-error@+1 {{moe.ranks = 4 is not supported; programs are made for exactly 1 rank}}
module attributes {moe.ranks = 4 : i64} {
  func.func @step(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
    return %x : tensor<?x32xf32>
  }
}
