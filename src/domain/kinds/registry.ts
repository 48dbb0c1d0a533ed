import { nearest } from '../../base/nearest.ts'
import { agentKind } from './agent.ts'
import { instructionsKind } from './instructions.ts'
import { budgetKind } from './budget.ts'
import type { Kind } from './kind.ts'
import { mcpServerKind } from './mcp-server.ts'
import { memoryKind } from './memory.ts'
import { modelEndpointKind } from './model-endpoint.ts'
import { policyKind } from './policy.ts'
import { priceTableKind } from './price-table.ts'
import { roleKind } from './role.ts'
import { secretKind } from './secret.ts'
import { toolKind } from './tool.ts'
import { workflowKind } from './workflow.ts'

/** Every kind of resource there is: routes, commands, checks and descriptions are made from these rows. */
export const KINDS = [
  workflowKind,
  secretKind,
  modelEndpointKind,
  priceTableKind,
  agentKind,
  instructionsKind,
  memoryKind,
  mcpServerKind,
  policyKind,
  roleKind,
  budgetKind,
  toolKind,
] as const

export type KindName = (typeof KINDS)[number]['kind']

const byName = new Map<string, Kind<KindName>>(KINDS.map((row) => [row.kind, row]))
const byWord = new Map<string, Kind<KindName>>(
  KINDS.flatMap((row: Kind<KindName>) =>
    [row.kind.toLowerCase(), row.plural, ...row.shortNames].map((word): [string, Kind<KindName>] => [word, row]),
  ),
)

/** The row of a kind as a document names it; null when there is none. */
export const findKind = (name: string): Kind<KindName> | null => byName.get(name) ?? null

/** The row of a kind that is known to exist. */
export function kindOf(name: KindName): Kind<KindName> {
  const row = byName.get(name)
  if (!row) throw new Error(`no kind ${name}`)
  return row
}

/** The row behind a word that a person typed: name, plural or short name, in any case; else what was probably meant. */
export function findKindByWord(word: string): { kind: Kind<KindName> } | { kind: null; near: string | null } {
  const kind = byWord.get(word.toLowerCase())
  return kind
    ? { kind }
    : {
        kind: null,
        near: nearest(
          word,
          [...byWord.keys()].filter((known) => known.length > 3),
        ),
      }
}
