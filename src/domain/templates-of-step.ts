import { compileExpression, type Expression, quote, type ROOTS } from './expression.ts'
import type { Problem } from './failure.ts'
import { nearest } from '../base/nearest.ts'
import { inferType, type VariableTypes } from './infer-type.ts'
import { formatPath, type Path } from './place.ts'
import { bareExpression, parseTemplate } from './template.ts'
import { describeType, type Kind, mayBe } from './value-type.ts'

/** What the expressions of one step read, and what is wrong with them. */
export interface StepExpressions {
  reads: { name: string; path: Path }[]
  problems: Problem[]
}

type Root = (typeof ROOTS)[number]

/** Fields whose strings are templates that are evaluated for each activation, so `item`, `matrix` and `turn` may be read. */
const PER_ITEM = [
  'with',
  'command',
  'env',
  'stdin',
  'workdir',
  'setUp',
  'tearDown',
  'wait',
  'approval',
  'route',
] as const
/** What every expression may read. */
const ALWAYS: readonly Root[] = ['inputs', 'steps', 'run']

/** Why a name has no value here: what would have to be otherwise. */
function whyNot(root: Root, step: Record<string, unknown>): string {
  const has = (key: string) => step[key] !== undefined
  if (root === 'event') return 'only wait.match can read it'
  if (root === 'matrix') return has('matrix') ? `only ${PER_ITEM.join(', ')} can read it` : 'the step has no matrix'
  if (root === 'turn')
    return has('loop')
      ? `only ${PER_ITEM.join(', ')} and loop.until can read it`
      : 'the step has no loop, and no next names it'
  return has('forEach') || has('matrix') ? `only ${PER_ITEM.join(', ')} can read it` : 'the step has no forEach'
}

/**
 * Compiles every expression of a step as it was written; the step may be wrong in other ways. `takesTurns`: it has a `next`, or one
 * names it.
 */
export function compileStepExpressions(
  step: Record<string, unknown>,
  path: Path,
  { types = {}, takesTurns = false }: { types?: VariableTypes; takesTurns?: boolean } = {},
): StepExpressions {
  const reads: StepExpressions['reads'] = []
  const problems: Problem[] = []
  const perItem: readonly Root[] = [
    ...ALWAYS,
    ...(step['forEach'] !== undefined || step['matrix'] !== undefined ? (['item', 'index'] as const) : []),
    ...(step['matrix'] !== undefined ? (['matrix'] as const) : []),
    ...(step['loop'] !== undefined || takesTurns ? (['turn'] as const) : []),
  ]

  function refuse(message: string, at: Path, near?: string): void {
    problems.push({ code: 'expression.invalid', message, path: formatPath(at), ...(near ? { nearest: near } : {}) })
  }

  interface Wanted {
    roots: readonly Root[]
    /** Static types, as CEL names them, and the kind of value that are taken. */
    gives?: RegExp
    kind?: Kind
    says?: string
  }

  function compile(source: string, at: Path, options: Wanted): void {
    const compiled = compileExpression(source)
    if (!compiled.ok) return refuse(compiled.message, at, compiled.nearest)
    const { expression } = compiled
    for (const { root } of expression.reads) {
      if (options.roots.includes(root)) continue
      refuse(`${root} has no value here: ${whyNot(root, step)}`, at, nearest(root, options.roots) ?? undefined)
    }
    if (options.gives && !options.gives.test(expression.type))
      refuse(`${quote(source)} gives ${expression.type}, not ${options.says}`, at)
    else if (expression.reads.every(({ root }) => options.roots.includes(root))) checkTypes(expression, at, options)
    for (const name of expression.steps) reads.push({ name, path: at })
  }

  /** What would fail whatever the inputs, by the schemas of inputs and outputs. */
  function checkTypes({ source, run }: Expression, at: Path, { kind, says }: Wanted): void {
    const inferred = inferType(run.ast, types)
    if (!inferred.ok)
      refuse(`${quote(source)} never has a value: ${inferred.failure.message}`, at, inferred.failure.nearest)
    else if (kind !== undefined && !mayBe(inferred.type, kind))
      refuse(`${quote(source)} gives ${describeType(inferred.type)}, not ${says}`, at)
  }

  function compileText(text: string, at: Path, roots: readonly Root[]): void {
    if (!text.includes('${{')) return
    const { parts, unclosedAt } = parseTemplate(text)
    if (unclosedAt !== null)
      refuse(`\${{ is not closed with }}, in ${JSON.stringify(text.slice(unclosedAt, unclosedAt + 60))}`, at)
    for (const part of parts) if (part.kind === 'expression') compile(part.source, at, { roots })
  }

  // The depth of what is walked is bounded before.
  function walk(value: unknown, at: Path, roots: readonly Root[]): void {
    if (typeof value === 'string') compileText(value, at, roots)
    else if (Array.isArray(value)) for (const [i, entry] of value.entries()) walk(entry, [...at, i], roots)
    else if (typeof value === 'object' && value !== null)
      for (const [key, entry] of Object.entries(value)) walk(entry, [...at, key], roots)
  }

  function condition(value: unknown, at: Path, roots: readonly Root[]): void {
    if (typeof value !== 'string') return
    const source = bareExpression(value)
    const name = String(at.at(-1))
    if (source === null)
      refuse(`${name} is one expression that gives true or false, not a text with expressions in it`, at)
    else compile(source, at, { roots, gives: /^(bool|dyn)$/, kind: 'bool', says: 'true or false' })
  }

  function list(value: unknown, at: Path): void {
    if (typeof value !== 'string') return walk(value, at, ALWAYS)
    const source = value.includes('${{') ? bareExpression(value) : null
    if (source === null) refuse(`${String(at.at(-1))} is a list, or one \${{ }} that gives a list`, at)
    else compile(source, at, { roots: ALWAYS, gives: /^(list\b.*|dyn|optional.*)$/, kind: 'list', says: 'a list' })
  }

  for (const field of PER_ITEM) {
    const value = step[field]
    walk(templatesIn(field, value), [...path, field], perItem)
  }
  const ofTurn: readonly Root[] = takesTurns ? [...ALWAYS, 'turn'] : ALWAYS
  condition(step['if'], [...path, 'if'], ofTurn)
  for (const { way, at } of waysIn(step['next'], [...path, 'next']))
    if (isObject(way)) condition(way['if'], [...at, 'if'], ofTurn)
  const wait = step['wait']
  if (isObject(wait)) condition(wait['match'], [...path, 'wait', 'match'], [...perItem, 'event'])
  const files = step['files']
  if (Array.isArray(files))
    for (const [i, want] of (files as unknown[]).entries())
      if (isObject(want) && typeof want['from'] === 'string')
        reads.push({ name: want['from'], path: [...path, 'files', i, 'from'] })
  const loop = step['loop']
  if (isObject(loop)) condition(loop['until'], [...path, 'loop', 'until'], [...ALWAYS, 'turn'])
  if (step['forEach'] !== undefined) list(step['forEach'], [...path, 'forEach'])
  const matrix = step['matrix']
  if (isObject(matrix)) for (const [key, axis] of Object.entries(matrix)) list(axis, [...path, 'matrix', key])

  return { reads, problems }
}

/** What stands in `next`: a list, or one name alone. */
export const waysIn = (next: unknown, at: Path): { way: unknown; at: Path }[] =>
  Array.isArray(next)
    ? next.map((way: unknown, i) => ({ way, at: [...at, i] }))
    : next === undefined
      ? []
      : [{ way: next, at }]

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** What `match` holds is an expression and no template; the schema of what an approver gives is neither, nor is what a route is told of steps. */
function templatesIn(field: (typeof PER_ITEM)[number], value: unknown): unknown {
  if (field === 'wait') return without(value, 'match')
  if (field === 'approval') return without(value, 'inputs')
  return field === 'route' && isObject(value) ? { question: value['question'] } : value
}

const without = (value: unknown, key: string): unknown =>
  isObject(value) ? Object.fromEntries(Object.entries(value).filter(([name]) => name !== key)) : value
