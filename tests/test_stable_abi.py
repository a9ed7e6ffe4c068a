"""One binary for every torch: the library built here passes opcheck under another torch.

``ASNET_OTHER_PYTHON`` names an interpreter whose environment holds torch 2.11 or later, of another version
than this one, and numpy; without it the test is skipped.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

OTHER = os.environ.get("ASNET_OTHER_PYTHON")

# asnet is imported from where this interpreter has it; its dependencies besides torch are not needed for the
# operators.
_SCRIPT = """
import sys
sys.path.append(sys.argv[1])
import importlib.util, types
package = types.ModuleType("asnet")
package.__path__ = [sys.argv[1] + "/asnet"]
sys.modules["asnet"] = package
import torch
from asnet.ops import cross_correlation, empty_maps, guided_modulation, reused_memory
x = torch.randn(2, 3, 9, 8, requires_grad=True)
checked = torch.library.opcheck(torch.ops.asnet.cross_correlation.default, (x, 3, 2, True, "auto"))
table = torch.randn(2, 3)
checked |= torch.library.opcheck(torch.ops.asnet.guided_modulation.default, (x, table, table, None, True))
double = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
assert torch.autograd.gradcheck(lambda features: cross_correlation(features, 2), double)
with torch.no_grad(), reused_memory(x):
    assert empty_maps(x, (3, 1 << 20)).fill_(2).sum() == 3 << 21
image, kernel = torch.rand(1, 1, 9, 8), torch.ones(1, 3, 3) / 9
latent = (image, image, image > 0.5, kernel, 4e-3, 8e-3, 2.0, 3, 1.5)
inference = ("test_schema", "test_faketensor", "test_autograd_registration")
checked |= torch.library.opcheck(torch.ops.asnet.sparse_latent.default, latent, test_utils=inference)
spectra = torch.rand(1, 2, 1, 2, 8, 16)
for operator, arguments in (
    (torch.ops.asnet.periodic_spectra, (torch.rand(1, 2, 9, 8),)),
    (torch.ops.asnet.periodic_images, (spectra, spectra[:, 0, :, 0], 9)),
    (torch.ops.asnet.shrunk_divergence, (torch.rand(1, 2, 9, 8), torch.tensor([0.1]))),
    (torch.ops.asnet.gather_images, ([image, image], torch.rand(1, 1), 1.0, 2.0, 2, 5, 4, True)),
):
    checked |= torch.library.opcheck(operator.default, arguments, test_utils=inference)
system = (torch.ones(1, 5, 5), kernel, kernel > 0, 1.0, 2)
checked |= torch.library.opcheck(torch.ops.asnet.toeplitz_solve.default, system, test_utils=inference)
checked |= torch.library.opcheck(torch.ops.asnet.label_parts.default, (kernel > 0,), test_utils=inference)
assert set(checked.values()) == {"SUCCESS"}, checked
print(torch.__version__)
"""


@pytest.mark.skipif(not OTHER, reason="ASNET_OTHER_PYTHON names no other interpreter")
def test_the_binary_passes_opcheck_under_another_torch():
    import asnet

    packages = str(Path(asnet.__file__).resolve().parents[1])
    result = subprocess.run([str(OTHER), "-c", _SCRIPT, packages], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() != str(torch.__version__), f"{OTHER} has the torch of {sys.executable}"
