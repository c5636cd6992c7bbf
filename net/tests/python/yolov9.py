"""YOLOv9's modules in PyTorch, written from their mathematics with the names of the public state dicts: makes the network
of a description with random weights and statistics, and writes its state dict and the output of every layer."""

import json
import re
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F



def pad(kernel):
    return kernel // 2


class Conv(nn.Module):
    def __init__(self, inputs, outputs, kernel=1, stride=1, groups=1, activate=True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, pad(kernel), groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.activate = activate

    def forward(self, x):
        y = self.bn(self.conv(x))
        return F.silu(y) if self.activate else y


class RepConvN(nn.Module):
    def __init__(self, channels, outputs):
        super().__init__()
        self.conv1 = Conv(channels, outputs, 3, activate=False)
        self.conv2 = Conv(channels, outputs, 1, activate=False)

    def forward(self, x):
        return F.silu(self.conv1(x) + self.conv2(x))


class Bottleneck(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.cv1 = RepConvN(channels, channels)
        self.cv2 = Conv(channels, channels, 3)

    def forward(self, x):
        return x + self.cv2(self.cv1(x))


class Csp(nn.Module):
    def __init__(self, inputs, outputs, copies):
        super().__init__()
        half = outputs // 2
        self.cv1 = Conv(inputs, half)
        self.cv2 = Conv(inputs, half)
        self.cv3 = Conv(2 * half, outputs)
        self.m = nn.Sequential(*(Bottleneck(half) for _ in range(copies)))

    def forward(self, x):
        return self.cv3(torch.cat([self.m(self.cv1(x)), self.cv2(x)], 1))


class RepNCSPELAN4(nn.Module):
    def __init__(self, inputs, outputs, first, inner, copies=1):
        super().__init__()
        self.cv1 = Conv(inputs, first)
        self.cv2 = nn.Sequential(Csp(first // 2, inner, copies), Conv(inner, inner, 3))
        self.cv3 = nn.Sequential(Csp(inner, inner, copies), Conv(inner, inner, 3))
        self.cv4 = Conv(first + 2 * inner, outputs)

    def forward(self, x):
        y = self.cv1(x)
        a, b = y.chunk(2, 1)
        c = self.cv2(b)
        return self.cv4(torch.cat([a, b, c, self.cv3(c)], 1))


class ADown(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.cv1 = Conv(inputs // 2, outputs // 2, 3, 2)
        self.cv2 = Conv(inputs // 2, outputs // 2)

    def forward(self, x):
        a, b = F.avg_pool2d(x, 2, 1).chunk(2, 1)
        return torch.cat([self.cv1(a), self.cv2(F.max_pool2d(b, 3, 2, 1))], 1)


class SPPELAN(nn.Module):
    def __init__(self, inputs, outputs, inner):
        super().__init__()
        self.cv1 = Conv(inputs, inner)
        self.cv5 = Conv(4 * inner, outputs)

    def forward(self, x):
        y = [self.cv1(x)]
        for _ in range(3):
            y.append(F.max_pool2d(y[-1], 5, 1, 2))
        return self.cv5(torch.cat(y, 1))


class CBLinear(nn.Module):
    def __init__(self, inputs, parts):
        super().__init__()
        self.parts = parts
        self.conv = nn.Conv2d(inputs, sum(parts), 1)

    def forward(self, x):
        return self.conv(x).split(self.parts, 1)


class CBFuse(nn.Module):
    def __init__(self, indices):
        super().__init__()
        self.indices = indices

    def forward(self, xs):
        last = xs[-1]
        others = [F.interpolate(x[i], last.shape[2:], mode="nearest") for x, i in zip(xs, self.indices)]
        return torch.stack([*others, last]).sum(0)


class Concat(nn.Module):
    def forward(self, xs):
        return torch.cat(xs, 1)


class DFL(nn.Module):
    def __init__(self, bins=16):
        super().__init__()
        self.bins = bins
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data[:] = torch.arange(bins, dtype=torch.float32).view(1, bins, 1, 1)

    def forward(self, x):
        n, _, anchors = x.shape
        bins = x.view(n, 4, self.bins, anchors).transpose(1, 2).softmax(1)
        return self.conv(bins).view(n, 4, anchors)


class Heads(nn.Module):
    """One or two branches of heads, each decoded to (N, 4 + classes, anchors), the main one last."""

    def __init__(self, classes, channels, strides, dual):
        super().__init__()
        self.classes, self.strides, self.dual = classes, strides, dual
        branches = 2 if dual else 1
        per = len(channels) // branches
        for branch in range(branches):
            maps = channels[branch * per:][:per]
            boxes = -(-max(maps[0] // 4, 64) // 4) * 4
            scores = max(maps[0], min(2 * classes, 128))
            setattr(self, f"cv{2 + 2 * branch}", nn.ModuleList(nn.Sequential(
                Conv(c, boxes, 3), Conv(boxes, boxes, 3, groups=4), nn.Conv2d(boxes, 64, 1, groups=4)) for c in maps))
            setattr(self, f"cv{3 + 2 * branch}", nn.ModuleList(nn.Sequential(
                Conv(c, scores, 3), Conv(scores, scores, 3), nn.Conv2d(scores, classes, 1)) for c in maps))
            setattr(self, "dfl2" if branch else "dfl", DFL())

    def branch(self, xs, strides, boxes, scores, dfl):
        anchors = torch.cat([torch.stack(torch.meshgrid(
            torch.arange(x.shape[2]) + 0.5, torch.arange(x.shape[3]) + 0.5, indexing="ij")[::-1]).view(2, -1)
            for x in xs], 1)
        stride = torch.cat([torch.full((x.shape[2] * x.shape[3],), float(s)) for x, s in zip(xs, strides)])
        distances = torch.cat([head(x).flatten(2) for head, x in zip(boxes, xs)], 2)
        logits = torch.cat([head(x).flatten(2) for head, x in zip(scores, xs)], 2)
        before, behind = dfl(distances).chunk(2, 1)
        low, high = anchors - before, anchors + behind
        box = torch.cat([(low + high) / 2, high - low], 1) * stride
        return torch.cat([box, logits.sigmoid()], 1)

    def forward(self, xs):
        per = len(xs) // (2 if self.dual else 1)
        y = [self.branch(xs[:per], self.strides[:per], self.cv2, self.cv3, self.dfl)]
        if self.dual:
            y.append(self.branch(xs[per:], self.strides[per:], self.cv4, self.cv5, self.dfl2))
        return y


def rows(text):
    """The rows of a description that a test wrote: one a line, in brackets."""
    found = {key: float(value) for key, value in re.findall(r"^(\w+): ([\d.]+)", text, re.M)}
    layers = []
    for line in re.findall(r"^  - (\[.*\])", text, re.M):
        line = re.sub(r"(?<![\w'.])([A-Za-z][\w.]*)", r"'\1'", line.replace("'nearest'", "nearest"))
        layers.append(eval(line))  # noqa: S307, the test's own text
    return found, layers


class Network(nn.Module):
    def __init__(self, text):
        super().__init__()
        numbers, layers = rows(text)
        classes, width = int(numbers["nc"]), numbers.get("width_multiple", 1)
        depth = numbers.get("depth_multiple", 1)
        self.model, self.sources = nn.ModuleList(), []
        channels, strides = [], []
        for index, (source, number, name, arguments) in enumerate(layers):
            sources = [s if s >= 0 else index + s for s in ([source] if isinstance(source, int) else source)]
            before = [channels[s] if s >= 0 else 3 for s in sources]
            stride = strides[sources[-1]] if sources[-1] >= 0 else 1
            number = max(round(number * depth), 1) if number > 1 else number
            out = before[-1]
            if name in ("Conv", "DSConv2D", "RepNCSPELAN4", "ADown", "SPPELAN"):
                out = -(-int(arguments[0] * width * 1024) // 8192) * 8
                if name in ("Conv", "DSConv2D"):
                    stride *= arguments[2] if len(arguments) > 2 else 1
                stride *= 2 if name == "ADown" else 1
            made = {
                "Silence": lambda: nn.Identity(),
                "Conv": lambda: Conv(before[0], out, *arguments[1:]),
                "DSConv2D": lambda: Conv(before[0], out, *arguments[1:]),
                "RepNCSPELAN4": lambda: RepNCSPELAN4(before[0], out, *arguments[1:]),
                "ADown": lambda: ADown(before[0], out),
                "SPPELAN": lambda: SPPELAN(before[0], out, *arguments[1:]),
                "nn.Upsample": lambda: nn.Upsample(scale_factor=2, mode="nearest"),
                "Concat": Concat,
                "CBLinear": lambda: CBLinear(before[0], arguments[0]),
                "CBFuse": lambda: CBFuse(arguments[0]),
                "DualDDetect": lambda: Heads(classes, before, [strides[s] for s in sources], True),
                "DDetect": lambda: Heads(classes, before, [strides[s] for s in sources], False),
            }[name]
            stride //= 2 if name == "nn.Upsample" else 1
            out = sum(before) if name == "Concat" else out
            self.model.append(nn.Sequential(*(made() for _ in range(number))) if number > 1 else made())
            self.sources.append(sources)
            channels.append(out)
            strides.append(stride)

    def forward(self, x):
        """Every layer's output."""
        outputs = []
        for module, sources in zip(self.model, self.sources):
            inputs = [outputs[s] if s >= 0 else x for s in sources]
            several = isinstance(module, (Concat, CBFuse, Heads))
            outputs.append(module(inputs if several else inputs[0]))
        return outputs


class Main(nn.Module):
    """The main branch's predictions, as public exports put them out."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)[-1][-1]


def randomise(network, generator):
    """Weights and statistics that keep activations near 1 and leave no norm trivial."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0, 1.4 / fan_in ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.uniform_(-0.5, 0.5, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.3, 0.3, generator=generator)
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)


def write_safetensors(path, tensors):
    """The format is a length, a JSON header and the data; the package needs no other version of PyTorch so."""
    names = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
    header, data, at = {}, [], 0
    for name, tensor in tensors.items():
        raw = tensor.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(raw)]}
        data.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))


def main():
    folder, description, seed, batch, height, width = Path(sys.argv[1]), *sys.argv[2:]
    generator = torch.Generator().manual_seed(int(seed))
    network = Network(Path(description).read_text()).eval()
    randomise(network, generator)
    x = torch.rand((int(batch), 3, int(height), int(width)), generator=generator)
    # The oracle is in f64; what it hands over is f32.
    network.double()
    with torch.no_grad():
        outputs = network(x.double())
    network.float()
    tensors = {"images": x}
    for index, y in enumerate(outputs[:-1]):
        maps = [y] if torch.is_tensor(y) else y
        if len(maps) == 1:
            tensors[f"model.{index}"] = maps[0].float()
    *auxiliary, main = outputs[-1]
    tensors["output0"] = main.float()
    for y in auxiliary:
        tensors["auxiliary"] = y.float()
    write_safetensors(folder / "state.safetensors", network.state_dict())
    write_safetensors(folder / "outputs.safetensors", tensors)
    torch.onnx.export(Main(network), x, str(folder / "network.onnx"), opset_version=13, input_names=["images"],
                      output_names=["output0"])
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    parameters = sum(p.numel() for p in network.parameters())
    (folder / "counts.json").write_text(json.dumps({"parameters": parameters, "gradients": trained}))


main()
