"""The house in numbers: ``python benchmarks/house.py [COMMIT]`` measures the package.

Code is counted without docstrings (those below a field or a constant among them), comments and
blank lines. With a commit, that one is measured beside the tree as it is.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from statistics import median

import networkx as nx

ROOT = Path(__file__).parents[1]
PACKAGE = 'bids_neurodecode'


def modules(root: Path) -> dict[str, Path]:
    """Return the files of the package by the names of their modules."""
    files = sorted((root / PACKAGE).rglob('*.py'))
    names = ('.'.join(file.relative_to(root).with_suffix('').parts) for file in files)
    return {name.removesuffix('.__init__'): file for name, file in zip(names, files, strict=True)}


@functools.cache
def tree_of(file: Path) -> ast.Module:
    """Return what a file is parsed to, once."""
    return ast.parse(file.read_text('utf-8'))


@functools.cache
def nodes_of(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Return a tree and all that is in it, which is walked once."""
    return tuple(ast.walk(tree))


def room_of(file: Path, root: Path) -> str:
    """Return the folder of the package that a file lies in."""
    parts = file.relative_to(root).parts
    return parts[1] if len(parts) > 2 else 'ground'


def code_lines(text: str) -> int:
    """Count lines that are no docstrings, comments or blanks."""
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            # a text that stands alone does nothing: it documents what it stands in or below
            case ast.Expr(ast.Constant(str())):
                skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(
        bool(line.strip()) and not line.strip().startswith('#') and number not in skipped
        for number, line in lines
    )


@functools.cache
def imports(root: Path) -> tuple[tuple[str, str, str], ...]:
    """Return who imports what from which module of the package, wherever it is written."""
    known = modules(root)
    found = []
    for name, file in known.items():
        for node in nodes_of(tree_of(file)):
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith(PACKAGE):
                for alias in node.names:
                    inner = f'{node.module}.{alias.name}'
                    source = inner if inner in known else str(node.module)
                    found.append((name, source, '' if inner in known else alias.name))
    return tuple(found)


def circles(root: Path = ROOT) -> list[list[str]]:
    """Return the sets of modules that import each other, imports within functions among them."""
    graph = nx.DiGraph((user, source) for user, source, _ in imports(root) if user != source)
    return [sorted(each) for each in nx.strongly_connected_components(graph) if len(each) > 1]


def private_imports(root: Path = ROOT) -> list[str]:
    """Return names with a leading underscore that another module imports."""
    return [
        f'{user}: {source}.{name}'
        for user, source, name in imports(root)
        if name.startswith('_') and name != '__version__' and user != source
    ]


RUNS_CODE = frozenset(
    {'eval', 'exec', 'os.system', 'os.popen', 'pd.read_pickle', 'yaml.load', 'tempfile.mktemp'}
)
"""Calls that run what a file or a text says."""
PICKLES = frozenset({'pickle', 'cPickle', 'cloudpickle', 'dill', 'joblib', 'shelve', 'marshal'})
NETWORK = frozenset({'requests', 'urllib', 'http', 'socket', 'pooch', 'huggingface_hub', 'ftplib'})
FETCHES = 'bids_neurodecode.models.weights_fetch'
"""The one module that may speak to a network: ``weights fetch``, which is asked for by name."""


def unsafe(tree: ast.AST, name: str) -> Iterator[str]:
    """Yield what a module does that a hostile file or text could make use of."""
    for node in nodes_of(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = getattr(node, 'module', None) or ''
            for alias in node.names:
                top = (source or alias.name).split('.')[0]
                if top in PICKLES and alias.name != 'UnpicklingError':
                    yield f'{name}:{node.lineno}: pickles'
                if top in NETWORK and name != FETCHES and source != 'urllib.parse':
                    yield f'{name}:{node.lineno}: speaks to a network'
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called in RUNS_CODE:
                yield f'{name}:{node.lineno}: {called}'
            if called == 'torch.load' and given.get('weights_only') != 'True':
                yield f'{name}:{node.lineno}: torch.load without weights_only'
            if given.get('allow_pickle', 'False') != 'False':
                yield f'{name}:{node.lineno}: allow_pickle'
            if given.get('shell', 'False') != 'False' and called.startswith('subprocess.'):
                yield f'{name}:{node.lineno}: a shell'
            if called.endswith('Environment') and given.get('autoescape') != 'True':
                yield f'{name}:{node.lineno}: a template that escapes nothing'


READ_BY_CALLERS = {
    'stimuli.tablefiles': 'its reader takes all of DAMAGE',
    'bids.provenance': 'descriptions are read by bids.description before',
    'models.checkpoints': 'of its own text',
    'bids.entities': 'of pybids itself',
}
"""Where JSON of users is guarded elsewhere; where, and how."""
OWN_JSON = re.compile(r'^(bids\.records|cli\.|signals\.\w+_worker|study$|workflow\.)')
"""Modules that read what this run wrote itself."""


def unguarded_json(tree: ast.AST, name: str) -> Iterator[str]:
    """Yield where JSON is read that may be nested too deep for the reader (RecursionError).

    Parameters
    ----------
    tree
        Of a module.
    name
        Of the module, without that of the package.
    """
    if name in READ_BY_CALLERS or OWN_JSON.match(name):
        return
    guarded: set[int] = set()
    for node in nodes_of(tree):
        if isinstance(node, ast.Try):
            caught = {ast.unparse(one.type) for one in node.handlers if one.type is not None}
        elif isinstance(node, ast.With):
            caught = {ast.unparse(each.context_expr) for each in node.items}
        else:
            continue
        if any('RecursionError' in types or 'BROKEN_TEXT' in types for types in caught):
            guarded |= {id(part) for line in node.body for part in ast.walk(line)}
    for node in nodes_of(tree):
        reads = isinstance(node, ast.Call) and ast.unparse(node.func) in {
            'json.load',
            'json.loads',
        }
        if reads and id(node) not in guarded:
            yield f'{name}:{getattr(node, "lineno", 0)}: JSON that may be nested too deep'


OURS = {
    r'[Pp]ictures?': 'images',
    r'[Ss]howings?': 'presentations',
    r'[Rr]ivals?': 'baselines',
    r'(more|less|most) alike': 'similar',
    r'[Mm]end(s|ed)?': 'fix',
    r'[Mm]akes? (it|them|the \w+) anew': 'regenerate',
    r'([Oo]ne|[Aa]) (row|column|panel|line|file|value|label|array|table) an?': 'one ... per',
}
"""Words of our own, and the field's in their place."""
_NO_PROSE = re.compile(
    r'`+[^`]*`+|\{[^{}]*\}|\]\([^)]*\)|^ *[*\w]+(?:, *[*\w]+)*(?: : .*)?$', re.MULTILINE
)
"""Code, fields to fill in, addresses, and names of parameters in docstrings."""
_WORDS = re.compile(rf"""(?<![\w./\-'"=])({'|'.join(OURS)})(?![\w/=\-'"]|\.\w)""")


def wording(source: str | ast.AST) -> list[str]:
    """Return the words of our own in what people read, where the field has others.

    Of code, texts with a space are read; of Markdown, what is no code.
    """
    if isinstance(source, str):
        texts = [re.sub(r'^```.*?^```', '', source, flags=re.MULTILINE | re.DOTALL)]
    else:
        nodes = (node for node in nodes_of(source) if isinstance(node, ast.Constant))
        texts = [node.value for node in nodes if isinstance(node.value, str)]
    prose = [' '.join(_NO_PROSE.sub(' _ ', each).split()) for each in texts if ' ' in each]
    return [found[0] for each in prose for found in _WORDS.finditer(each)]


def undocumented(root: Path = ROOT) -> dict[str, int]:
    """Count functions without a section ``Parameters``, by room.

    Those that are public and take two parameters or more; not what is defined in functions or in
    private classes, which nobody else can call.
    """
    found: Counter[str] = Counter()

    def visit(parent: ast.AST, room: str) -> None:
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith('_'):
                continue
            if isinstance(node, ast.ClassDef):
                visit(node, room)
                continue
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            own = [a for a in named if a.arg not in {'self', 'cls'}]
            if len(own) >= 2 and 'Parameters\n' not in (ast.get_docstring(node) or ''):
                found[room] += 1

    for file in modules(root).values():
        visit(tree_of(file), room_of(file, root))
    return dict(found)


EQUATIONS = frozenset(
    {
        *('fit_block', 'fit_scale_offset', 'explained_by', 'ncsnr', 'noise_ceiling', 'tsnr'),
        *('align_to_clock', 'fir_design', 'fit_ridge', 'fit_banded', 'pearson_by_column'),
        *('outcomes_2way', 'ssim_table', 'fdr', 'p_value', 'bootstrap_ci', 'max_statistic_p'),
        'phase_surrogates',
    }
)
"""Functions that hold an equation, from betas to the corrections of p values."""


def _names(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names that a statement uses, annotations aside, each with an attribute or none."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            yield node.id, ''
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr
        for field, value in ast.iter_fields(node):
            if field not in {'annotation', 'returns'}:
                children = value if isinstance(value, list) else [value]
                waiting += [child for child in children if isinstance(child, ast.AST)]


def _defined(root: Path) -> Iterator[tuple[str, ast.stmt, int]]:
    """Yield what the top of each module defines, and what it counts on the way to an equation."""
    for module, file in modules(root).items():
        for line in tree_of(file).body:
            if isinstance(line, ast.FunctionDef | ast.ClassDef):
                yield f'{module}.{line.name}', line, 1
            elif isinstance(line, ast.Assign | ast.AnnAssign):
                for target in line.targets if isinstance(line, ast.Assign) else [line.target]:
                    yield f'{module}.{ast.unparse(target)}', line, 0


def references(root: Path) -> nx.DiGraph:
    """Return which functions and classes name which; a table between them is no hop of its own."""
    defined = {name: (line, weight) for name, line, weight in _defined(root)}
    imported = {
        (module, alias.asname or alias.name): f'{node.module}.{alias.name}'
        for module, file in modules(root).items()
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    graph = nx.DiGraph()
    for user, (line, _) in defined.items():
        module = user.rpartition('.')[0]
        for name, attribute in _names(line):
            near = f'{module}.{name}'
            found = near if near in defined else imported.get((module, name), '')
            for source in {found, f'{found}.{attribute}'} & defined.keys() - {user}:
                graph.add_edge(user, source, weight=defined[source][1])
    # systems are named by no module: they are loaded by their names
    loaded = [
        name for name in defined if re.fullmatch(rf'{PACKAGE}\.systems\.\w+\.system\.SYSTEM', name)
    ]
    graph.add_edges_from(
        ((f'{PACKAGE}.extensions.system_named', name) for name in loaded), weight=0
    )
    return graph


def hops(root: Path) -> dict[str, int]:
    """Return the fewest calls from the command line, participant level, to each equation.

    Two more than from ``participant_level``, through which checks before the run do not lead.
    """
    start = f'{PACKAGE}.cli.levels.participant_level'
    lengths = nx.single_source_dijkstra_path_length(references(root), start)
    found: dict[str, int] = {}
    for name, length in lengths.items():
        room, equation = name.split('.')[1], name.rpartition('.')[2]
        if equation in EQUATIONS and room in {'signals', 'models', 'evaluation'}:
            found[equation] = min(length + 2, found.get(equation, length + 2))
    return found


def string_keys(tree: ast.AST) -> list[str]:
    """Return the keys that something is looked up by, written as text, one for each look-up."""
    slices = [node.slice for node in ast.walk(tree) if isinstance(node, ast.Subscript)]
    return [x.value for x in slices if isinstance(x, ast.Constant) and isinstance(x.value, str)]


def longest_function(root: Path) -> tuple[int, str]:
    """Return the most lines of code that a function has, without its docstring, and where."""
    found = (0, '')
    for name, file in modules(root).items():
        for node in nodes_of(tree_of(file)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if ast.get_docstring(node, clean=False) is not None:
                    first = node.body[0]
                    length -= (first.end_lineno or first.lineno) - first.lineno + 1
                found = max(found, (length, f'{name}.{node.name}'))
    return found


def measure(root: Path) -> dict[str, str]:
    """Return every figure, as text, by what it is."""
    files = modules(root).values()
    texts = {file: file.read_text('utf-8') for file in files}
    code: Counter[str] = Counter()
    for file, text in texts.items():
        code[room_of(file, root)] += code_lines(text)
    workflow = '\n'.join(text for file, text in texts.items() if '/workflow/' in str(file))
    steps = [x for x in files if {'workflow', 'steps'} & {*x.relative_to(root).parts, x.stem}]
    keys = [key for file in steps for key in string_keys(tree_of(file))]
    calls = sorted(hops(root).values())
    length, where = longest_function(root)
    tests: Counter[str] = Counter()
    for file in (root / 'tests').rglob('*.py'):
        tests[room_of(file, root)] += len(file.read_text('utf-8').splitlines())
    sections = re.findall(r'^ *[A-Z][a-z]+\n *-{4,}$', '\n'.join(texts.values()), re.M)
    return {
        'files': str(len(texts)),
        'lines': str(sum(len(text.splitlines()) for text in texts.values())),
        'code': str(sum(code.values())),
        **{f'code in {room}': str(n) for room, n in sorted(code.items())},
        'test lines': str(sum(tests.values())),
        **{f'test lines in {room}': str(n) for room, n in sorted(tests.items())},
        'imports of modules of the package': str(sum(1 for _ in imports(root))),
        'circles of imports': str(len(circles(root))),
        'private imports': str(len(private_imports(root))),
        'Nipype specs': str(
            len(re.findall(r'^class \w+\((?:\w*InputSpec|TraitedSpec)', workflow, re.M))
        ),
        'connections by hand': str(len(re.findall(r'\.connect\(', workflow))),
        'Any in workflow': str(len(re.findall(r'\bAny\b', workflow))),
        'look-ups by a string in workflow and steps': f'{len(keys)} of {len(set(keys))} keys',
        'calls to an equation': f'{median(calls):g}, {calls[-1]} at most ({len(calls)} found)',
        'sections of docstrings': str(len(sections)),
        'public functions of 2+ parameters without Parameters': str(
            sum(undocumented(root).values())
        ),
        'longest function': f'{length} ({where.removeprefix(PACKAGE + ".")})',
    }


def main() -> None:
    """Print the figures, those of a commit beside them."""
    columns = {'now': measure(ROOT)}
    if len(sys.argv) > 1:
        tree = subprocess.run(
            ['git', 'archive', sys.argv[1]], cwd=ROOT, capture_output=True, check=True
        )
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fileobj=BytesIO(tree.stdout)) as archive:
                archive.extractall(folder, filter='data')
            columns = {sys.argv[1]: measure(Path(folder)), **columns}
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    print(f'{"":54s}' + ''.join(f'{title:>34s}' for title in columns))
    for name in names:
        print(f'{name:54s}' + ''.join(f'{each.get(name, "0"):>34s}' for each in columns.values()))


if __name__ == '__main__':
    main()
