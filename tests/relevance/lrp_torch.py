"""The same rules once more, on the torch model itself: autograd's backward pass carries relevance instead of gradients.

timm's own forward code runs; a function mode replaces the arithmetic it meets by functions of the same value whose
backward is the rule, told as `input x gradient` of a denominator. Everything is in double precision.
"""

import torch
from torch.overrides import TorchFunctionMode

GAMMA = 0.25


class Shared(torch.autograd.Function):
    """A value; R goes to the inputs as `input x d(denominator . S)/d input`, S = R / denominator."""

    @staticmethod
    def forward(ctx, value, denominator, cancelled, *inputs):
        ctx.denominator, ctx.cancelled = denominator, cancelled
        ctx.save_for_backward(*inputs)
        return value.detach().clone()

    @staticmethod
    def backward(ctx, relevance):
        wanted = ctx.needs_input_grad[3:]
        with torch.enable_grad():
            inputs = [item.detach().requires_grad_() for item in ctx.saved_tensors]
            below = ctx.denominator(*inputs)
            floor = torch.full_like(below, 1e-18)
            if ctx.cancelled:
                floor = 1e-3 * below.detach().pow(2).mean((-2, -1), keepdim=True).sqrt().expand_as(below)
            used = below.detach().abs() > floor
            share = torch.where(used, relevance / torch.where(used, below.detach(), 1), 0)
            gradients = torch.autograd.grad(below, inputs, share)
        factor = 0.5 if ctx.cancelled else 1.0
        found = [
            item.detach() * gradient * factor if want else None
            for item, gradient, want in zip(inputs, gradients, wanted, strict=True)
        ]
        return None, None, None, *found


class Passed(torch.autograd.Function):
    """A value whose relevance goes to `source` as it is."""

    @staticmethod
    def forward(ctx, source, value):
        return value.detach().clone()

    @staticmethod
    def backward(ctx, relevance):
        return relevance, None


def zplus_denominator(x, weight):
    return x.clamp(min=0) @ weight.clamp(min=0) + x.clamp(max=0) @ weight.clamp(max=0)


def gamma_denominator(x, weight):
    total = x @ weight
    positive = zplus_denominator(x, weight)
    favoured = torch.where(total.detach() > 0, positive, total - positive)
    return total + GAMMA * favoured


class Rules(TorchFunctionMode):
    """Replaces what the rules speak of; layouts keep their gradients, which are the right thing for relevance."""

    def __init__(self, linear, names):
        super().__init__()
        self.linear = linear
        self.names = names
        self.products = 0
        self.relevance = {}

    def read(self, name, tensor):
        """Remembers the absolute relevance at a tensor, by instance; windows of an image lie together."""

        def keep(gradient):
            self.relevance[name] = gradient.abs().flatten(1).sum(1)

        tensor.register_hook(keep)
        return tensor

    def __torch_function__(self, function, types, args=(), kwargs=None):
        value = function(*args, **(kwargs or {}))
        name = function.__name__.strip("_")
        if name == "linear":
            x, weight = args[0], args[1]
            result = Shared.apply(value, lambda x: self.linear(x, weight.T), False, x)
            return self.read(self.names[id(weight)], result)
        if name == "conv2d":
            return self.read(self.names[id(args[1])], value)
        if name == "matmul":
            result = Shared.apply(value, torch.matmul, True, *args)
            self.products += 1
            return result if self.products % 2 else self.read(f"mixing {self.products // 2 - 1}", result)
        if name == "softmax":
            self.read(f"scores {self.products // 2}", args[0])
            return Passed.apply(args[0], value)
        if name in ("add", "radd"):
            return Shared.apply(value, lambda *terms: sum(term.abs() for term in terms), False, *args)
        if name in ("layer_norm", "gelu"):
            return Passed.apply(args[0], value)
        if name in ("mul", "rmul", "div", "truediv") and isinstance(args[0], torch.Tensor):
            return Passed.apply(args[0], value) if args[0].requires_grad else value
        if name == "mean":
            axes = args[1] if len(args) > 1 else kwargs["dim"]
            sign = args[0].detach().mean(axes, keepdim=True).sign()

            def one_sign(x):
                return torch.where(x.detach() * sign > 0, x, 0).sum(axes).reshape(value.shape)

            return Shared.apply(value, one_sign, False, args[0])
        return value


def layer_masses(model, images, rule):
    """Absolute relevance at every layer, `[images]` each.

    Linear layers and the patch embedding go by the name of their module, the products of the k-th attention by
    "scores k" (read at the Softmax) and "mixing k".
    """
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    model = model.double().requires_grad_(False)
    names = {id(module.weight): name for name, module in model.named_modules() if hasattr(module, "weight")}
    x = torch.from_numpy(images).double().requires_grad_()
    rules = Rules({"zplus": zplus_denominator, "gamma": gamma_denominator}[rule], names)
    with rules:
        y = model(x)
    top = torch.nn.functional.one_hot(y.argmax(1), y.shape[1])
    y.backward(top * y.detach())
    return {name: mass.reshape(len(images), -1).sum(1).numpy() for name, mass in rules.relevance.items()}
