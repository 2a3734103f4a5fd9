"""How deep an operation may nest, and how many aliases it may have.

Each fragment is measured once, however often it is spread: a short document whose fragments spread each other twice
would take years to walk through.
"""

from dataclasses import dataclass

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
)


@dataclass(frozen=True)
class Size:
    """`depth` counts the fields with fields of their own that are nested in each other, introspection apart."""

    depth: int = 0
    aliases: int = 0


class Measure:
    def __init__(self, context: ValidationContext) -> None:
        self._context = context
        self._fragments: dict[str, Size] = {}

    def of(self, selection_set: SelectionSetNode) -> Size:
        sizes = [self._selection(node) for node in selection_set.selections]
        return Size(max(size.depth for size in sizes), sum(size.aliases for size in sizes))

    def _selection(self, node: SelectionNode) -> Size:
        match node:
            case FieldNode():
                within = self.of(node.selection_set) if node.selection_set else Size(-1)
                depth = 0 if node.name.value.startswith("__") else within.depth + 1
                return Size(depth, within.aliases + (node.alias is not None))
            case InlineFragmentNode():
                return self.of(node.selection_set)
            case FragmentSpreadNode():
                return self._fragment(node.name.value)
        return Size()

    def _fragment(self, name: str) -> Size:
        if name not in self._fragments:
            self._fragments[name] = Size()  # for one that spreads itself; another rule refuses it
            fragment = self._context.get_fragment(name)
            if isinstance(fragment, FragmentDefinitionNode):
                self._fragments[name] = self.of(fragment.selection_set)
        return self._fragments[name]


def limits(max_depth: int, max_aliases: int) -> type[ValidationRule]:
    class Limits(ValidationRule):
        def enter_operation_definition(self, node: OperationDefinitionNode, *_: object) -> None:
            size = Measure(self.context).of(node.selection_set)
            if size.depth > max_depth:
                message = f"the operation nests {size.depth} levels deep; at most {max_depth} are answered"
                self.report_error(GraphQLError(message, node))
            if size.aliases > max_aliases:
                message = f"the operation has {size.aliases} aliases; at most {max_aliases} are answered"
                self.report_error(GraphQLError(message, node))

    return Limits
