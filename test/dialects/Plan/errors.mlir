// One test per numbered constraint, in the order of PlanDialect.td and PlanOps.td.
//
// RUN: sluice-opt %s -verify-diagnostics -split-input-file

// expected-error @below {{'plan.buckets' C2: must be a non-empty array<i64: ...>}}
module attributes {plan.buckets = [1, 2]} {}

// -----

// expected-error @below {{'plan.buckets' C3: 2 follows 2; token counts must ascend from 1}}
module attributes {plan.buckets = array<i64: 1, 2, 2>} {}

// -----

// expected-error @below {{'plan.buckets' C1: belongs on the module, not on 'func.func'}}
func.func private @f() attributes {plan.buckets = array<i64: 1>}

// -----

// expected-error @below {{'plan.other' is not an attribute of the plan dialect}}
module attributes {plan.other} {}

// -----

// expected-error @below {{plan.buffer C1: a buffer of 0 bytes holds nothing}}
func.func private @f(!plan.buffer<0>)

// -----

// expected-error @below {{plan.range C1: [0 for 0] is not a range of bytes}}
func.func private @f() attributes {r = #plan.range<io[0 for 0]>}

// -----

// expected-error @below {{'heap' is not a slab: weights, kv, arena or io}}
func.func private @f() attributes {r = #plan.range<heap[0 for 1]>}

// -----

// plan.kernel

// expected-error @below {{C1: kernel family residual: parameter "multiplier" is missing}}
plan.kernel @residual_0 = "residual"(width = 16)

// -----

// expected-error @below {{C1: kernel family teleport}}
plan.kernel @k = "teleport"(width = 16)

// -----

// expected-error @below {{C1: parameter "width" is neither an i64, an f64 nor a string}}
plan.kernel @k = "residual"(width = [16], multiplier = 1.0)

// -----

// expected-error @below {{parameter 'width' is given twice}}
plan.kernel @k = "residual"(width = 16, width = 16, multiplier = 1.0)

// -----

// plan.rank

plan.rank @rank0 number 0 {}
// expected-error @below {{C1: number 0 is also that of @rank0}}
plan.rank @rank1 number 0 {}

// -----

plan.rank @rank0 number 0 {
  plan.slab arena bytes 256 align 256
  // expected-error @below {{is the second arena slab; plan.rank C2 allows one of each kind}}
  plan.slab arena bytes 256 align 256
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
// expected-error @below {{C3: program of 2 tokens follows one of 4; token counts must ascend}}
plan.rank @rank0 number 0 {
  plan.program @a tokens 4 {}
  plan.program @b tokens 2 {}
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
// expected-error @below {{C4: @b is not packed, but others are}}
plan.rank @rank0 number 0 {
  plan.program @a tokens 2 arena 0 live 0 {}
  plan.program @b tokens 4 {}
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
// expected-error @below {{C4: plan.io @header needs an offset in a packed rank}}
plan.rank @rank0 number 0 {
  plan.io @header bytes 32
  plan.program @a tokens 2 arena 0 live 0 {}
}
}

// -----

// expected-error @below {{C4: has slabs, but its programs are not packed}}
plan.rank @rank0 number 0 {
  plan.slab io bytes 256 align 256
}

// -----

// plan.slab

plan.rank @rank0 number 0 {
  // expected-error @below {{C1: alignment 96 is not a power of two of at least 64}}
  plan.slab arena bytes 256 align 96
}

// -----

// plan.weight

moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  // expected-error @below {{C1: layout "tiles" is not known; it is row_major, panel16 or gate_up_panel16}}
  plan.weight @w from @w layout "tiles" format "f32" bytes 1024
}

// -----

moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  // expected-error @below {{C1: }}
  plan.weight @w from @w layout "panel16" format "f12" bytes 1024
}

// -----

plan.rank @rank0 number 0 {
  // expected-error @below {{C2: there is no moe.weight @w}}
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
}

// -----

moe.weight @w : tensor<16xf32> = dense<1.0> : tensor<16xf32>
plan.rank @rank0 number 0 {
  // expected-error @below {{C2: shape [16] does not fit layout "panel16", which stores [N, K] or [E, N, K]}}
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
}

// -----

moe.weight @w : tensor<3x16x16xf32> = dense<1.0> : tensor<3x16x16xf32>
plan.rank @rank0 number 0 {
  // expected-error @below {{C2: shape [3, 16, 16] does not fit layout "gate_up_panel16", which stores [2, N, K] or [E, 2, N, K]}}
  plan.weight @w from @w layout "gate_up_panel16" format "f32" bytes 1024
}

// -----

moe.weight @w : tensor<17x16xf32> = dense<1.0> : tensor<17x16xf32>
plan.rank @rank0 number 0 {
  // expected-error @below {{C3: bytes = 1024, but @w takes 2048 in layout "panel16"}}
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
}

// -----

moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 8192 align 4096
  // expected-error @below {{C4: offset 256 is not a multiple of 4096}}
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 256
}

// -----

moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  // expected-error @below {{C5: 1024 bytes at offset 4096 exceed the 4096 bytes of the weights slab}}
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 4096
}

// -----

// plan.cache and plan.io

plan.rank @rank0 number 0 {
  // expected-error @below {{C1: offset 256 is not a multiple of 4096}}
  plan.cache @k bytes 1024 at 256
}

// -----

plan.rank @rank0 number 0 {
  // expected-error @below {{C2: 1024 bytes at offset 0 exceed the 0 bytes of the kv slab}}
  plan.cache @k bytes 1024 at 0
}

// -----

plan.rank @rank0 number 0 {
  // expected-error @below {{C1: offset 32 is not a multiple of 256}}
  plan.io @header bytes 32 at 32
}

// -----

// plan.program

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.rank @rank0 number 0 {
  // expected-error @below {{C1: 'plan.cmd.record' stands beside 'plan.async.record'; a program is either plan.async or plan.cmd}}
  plan.program @a tokens 4 {
    %e = plan.async.record stream 0
    plan.cmd.record event 0 stream 0
  }
}
}

// -----

plan.rank @rank0 number 0 {
  // expected-error @below {{C1: 'func.call' is not an operation of programs}}
  plan.program @a tokens 4 {
    func.call @f() : () -> ()
  }
}

// -----

plan.rank @rank0 number 0 {
  // expected-error @below {{C2: live = 512 exceeds arena = 256}}
  plan.program @a tokens 4 arena 256 live 512 {}
}

// -----

plan.rank @rank0 number 0 {
  // expected-error @below {{C2: arena and live bytes are missing after packing}}
  plan.program @a tokens 4 {
    plan.cmd.record event 0 stream 0
  }
}

// -----

plan.rank @rank0 number 0 {
  // expected-error @below {{C3: the module's moe.limits are missing, or allow fewer than 4 tokens}}
  plan.program @a tokens 4 {}
}
