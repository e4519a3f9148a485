"""What the page says in words."""

ABOUT = """\
Speed and memory against the adapters as their papers publish them, against LoRA, and against the frozen towers
alone. All figures on this page are ratios within one run; the page is made by `python -m benchmarks.page` from the
JSON files in `benchmarks/results`, which hold every sample."""

NOT_RUN = """\
Not run: no GPU was at hand. One command runs everything there, in float32, in bfloat16, and in bfloat16 compiled:

```
python -m benchmarks.run --device cuda --suite all --out benchmarks/results/cuda.json
python -m benchmarks.page
```

Where time is lent in short pieces, `--suite layer`, `step`, `memory`, `scaling` and `parts`, with
`--precision float32`, `bfloat16` or `"bfloat16 compiled"`, run one after the other into the same file with `--add`.
Compiling whole models takes minutes and torch 2.13 or newer."""

HOW = """\
```
pip install -e ".[bench]"
python -m benchmarks.run --quick
python -m benchmarks.run --out benchmarks/results/cpu.json
python -m benchmarks.page
```

`--suite layer`, `step`, `memory`, `scaling` or `parts` runs a part, `--cases 'avmoe/*vision'` some cases of it.

- **Peers.** *published*: the adapters written plainly from the papers' formulas. The other stream's tokens are
  resampled and kept; channels come before tokens; projections are grouped 1x1 convolutions with 2-D batch norm. It
  is our own writing, with the weights of our layer, and stands in for the authors' programs. *LoRA*: PEFT's, on all
  linear maps of the blocks of the same two towers, at the rank that trains as many parameters; it exchanges nothing
  between the towers. *towers*: the frozen backbones alone; when training, with one added vector per tower in the
  first block, since adapters there make the backward pass run through all of both towers.
- **First right, then fast.** Before a case is timed, outputs and all gradients of our form are compared with the
  published form's, on random weights with all gates open. A difference ends the case without a figure. The error found
  is stored beside the times. In whole models the attention logits are scaled by the root of the width, in all variants
  alike: with unscaled ones and random weights, rounding alone moves the gradients by percents. On a CPU the published
  form copies one gradient to the plain layout, because batch norm there returns wrong gradients without it.
- **Sizes.** Swin-V2-L at 192 pixels and HTS-AT, random weights. Single adapters: 10 frames (2+2 experts and DG-SCT:
  4; on a GPU 20 all), 32 latent tokens (LAVisH: 2), reduction 8, 2 groups, batch norm with batch statistics, both
  layer norms. Whole models: 8 pairs (every second stage skipped), without head and optimizer; on a GPU 20 frames. On
  a CPU 8 frames for the training step, 2 where LoRA and cheaper resamplers are compared and for memory, 4 at
  inference: one clip of 10 takes a minute and 10 GB there. Growth: 2 frames, with pairs 1. The mixture alone: 4
  frames, on a GPU as many as make a GiB, so that neither a cache nor the launching of kernels is measured. `--quick`
  takes 1 frame and miniature towers.
- **Time.** After a warm-up all variants of a case run in turn, in rotating order, in several rounds (whole models
  on a CPU: two). Ratios are taken round by round; given are their median and quartiles. On a CPU the clock is the
  time that the process was given, on one thread, since others may be using the machine; wall time is stored too. On
  a GPU it is the time between two events, with the queue drained before, and float32 is without TF32.
- **train** is forward and backward to inputs and all trained parameters; **forward** is evaluation mode without
  gradients.
- **Memory kept** is every storage that autograd saves for the backward pass, counted once, without the model's own
  weights; inputs count where they are kept. **Peak** is of a process of its own: resident memory on a CPU,
  allocated memory on a GPU."""

# Why a target is missed and what to try next, by target and device; shown only while it is missed.
CAUSES: dict[tuple[str, str], str] = {
    ("inference, lowrank", "cpu"): (
        "32 mixtures take 1.4 of the towers' 32 billion multiply-adds per frame; most of the rest is passes over the "
        "tokens, norms and routers, which 0+2 experts, reading nothing, need as well. Next: fold the norms into the "
        "bottlenecks once per model instead of once per call."
    ),
    ("inference, interpolate", "cpu"): ("as for lowrank: reading the other stream is no longer what costs most."),
    ("training step, of the towers' alone", "cpu"): (
        "per frame the mixtures take about a third of what the frozen towers take. To that comes what does not grow "
        "with the batch, nearly a second per step: in the first stage each mixture reads 9.4 million token weights and "
        "writes as many gradients. Next: `lowrank` and `interpolate`, with few such weights or none; see their rows."
    ),
    ("training step: times faster than published", "cpu"): (
        "most of a step is the frozen towers', which both forms share, and what does not grow with the batch (token "
        "weights read, their gradients written) weighs more on few frames than on the twenty of the recipe. Next: more "
        "frames per step."
    ),
}

STEPS = """\
The targets are read from the rows with most frames. That choice matters on a CPU: on 2 frames, which were
measured first, both targets of the training step are missed. What does not grow with the batch costs more in
our form than in the published one. The recipe has 20 frames, which no row on a CPU has, and whole models run
only two rounds there, so a ratio this close to its bound is not settled."""

PART_NOTES = {
    "Recomputation": """\
One training step of Swin-V2-T, at 192 pixels, and HTS-AT with 8 pairs of AVMoE's mixtures; `checkpoint=` says what the
backward pass runs again. On a CPU 2 frames.""",
    "The frozen prefix, stored": """\
Mixtures at the third stage alone; what arrives there comes from a `PrefixCache` on the disk, in memory-mapped files
that the system holds in memory here. *papers' towers*: tokens in and out, without media; on a CPU 2 frames.
*miniature towers*: those of the examples' default runs, 4 clips of ten seconds, with the reading of 224-pixel JPEGs
and waveforms where it is needed. An epoch consists of such steps. bfloat16 rounds; all others give the same.""",
    "Merged for evaluation": """\
10 frames of 144 tokens, 768 channels. The last two show why merging leaves some parts as they are: *merged* is there
what it does not do, grouped projections written as dense ones, and a layer norm without scale and shift.""",
    "HTS-AT's front end": """\
Waveforms of one second to log-mels of ten, as the tower takes them. *every frame*: all 1001 are transformed, as
published; *distinct frames*: the 104 that differ.""",
    "Recording the routing": """\
A step with 20 frames of the examples' default towers and 20 mixtures, under a `RoutingRecorder` and without; and
one update with 48 mixtures alone, beside copies of their probabilities.""",
    "Experts in files": """\
Peak memory of a process, torch included, in which a decoder of eight layers, 256 wide, routes one batch to each expert
in turn; an expert is 12.6 MB in four MLPs. *opened lazily*: `ExpertRouted.open_tasks(..., resident=1)`. The outputs are
the same.""",
    "Modulating gradients": """\
A whole training step of two ResNet-18 under one classifier, 112 pixels, SGD with momentum; on a CPU 8 samples, on a GPU
64. Coefficients are all one, so that *OGM* has to end with the same weights as *plain*; noise is drawn for every
convolution kernel, 22 million numbers a step, whatever the batch.""",
}

ACCURACY = """\
The forged default run of `examples/ave_train.py`, adapters of one cross-modal and one unimodal expert, three seeds;
the best epoch is chosen on validation. *dense* is the published resampler, and exact; the others form the other
stream's tokens with fewer weights. `python -m benchmarks.accuracy` holds the commands."""
