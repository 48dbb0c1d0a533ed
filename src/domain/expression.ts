import { type ASTNode, Environment, EvaluationError, type ParseResult } from '@marcbachmann/cel-js'
import type { Json, JsonObject } from '../base/json.ts'
import { nearest } from '../base/nearest.ts'
import { Failure } from './failure.ts'
import { LIMITS } from './limits.ts'
import { formatPath, type Path } from './place.ts'
import { TookTooLong, within } from './within.ts'

/** What expressions can read. A step that gave no output has no `output`. */
export interface Scope {
  inputs: JsonObject
  steps: Record<string, { output?: Json; state: string }>
  item?: Json
  index?: number
  /** The combination of a matrix that this activation has. */
  matrix?: Json
  /** Of a loop: the turn, and what the turn before gave. In `until` the turn that has just ended, and what it gave. */
  turn?: { index: number; output?: Json }
  /** In `wait.match`: the event that came. */
  event?: { name: string; payload: Json }
  run: { id: string; workflow: string; namespace: string }
}

export const ROOTS = ['inputs', 'steps', 'item', 'index', 'matrix', 'turn', 'event', 'run'] as const
const RUN_FIELDS = ['id', 'workflow', 'namespace']
const STEP_FIELDS = ['output', 'state']
const FIELDS_OF: Partial<Record<string, string[]>> = {
  run: RUN_FIELDS,
  turn: ['index', 'output'],
  event: ['name', 'payload'],
}

/** Names that are no variables: types, and the receivers of `cel.bind` and `optional.of`. */
const TYPE_NAMES = new Set(['bool', 'int', 'uint', 'double', 'string', 'bytes', 'list', 'map', 'type', 'null_type'])
const FUNCTION_SPACES = new Set(['cel', 'optional'])
const LOOPS = new Set(['map', 'filter', 'all', 'exists', 'exists_one', 'existsOne'])

/** One chain of members that an expression reads, as far as it is written out: `steps.a.output[0]`. */
export interface ReadPath {
  root: (typeof ROOTS)[number]
  path: Path
}

export interface Expression {
  source: string
  /** Static type as CEL names it; `dyn` when only a value can tell. */
  type: string
  reads: ReadPath[]
  /** Names of the steps that are read. */
  steps: string[]
  run: ParseResult
  /** Cheap by its form, so it needs no watch. */
  short: boolean
}

export type CompiledExpression = { ok: true; expression: Expression } | { ok: false; message: string; nearest?: string }

const environment = createEnvironment()
const cache = new Map<string, CompiledExpression>()

/** Parses and checks CEL without `${{ }}`. Pure: the same source gives the same answer; the last few thousand are kept. */
export function compileExpression(source: string): CompiledExpression {
  const known = cache.get(source)
  if (known !== undefined) {
    cache.delete(source)
    cache.set(source, known)
    return known
  }
  const compiled = compileAnew(source)
  if (source.length <= LIMITS.expressionChars) cache.set(source, compiled)
  if (cache.size > LIMITS.expressionCacheMax) {
    const [oldest] = cache.keys()
    if (oldest !== undefined) cache.delete(oldest)
  }
  return compiled
}

function compileAnew(source: string): CompiledExpression {
  if (source.trim() === '') return { ok: false, message: 'the expression is empty' }
  if (source.length > LIMITS.expressionChars)
    return { ok: false, message: `the expression is longer than ${LIMITS.expressionChars} characters` }
  try {
    const run = environment.parse(source)
    const found = readsOf(run.ast)
    const wrong = found.problems[0]
    if (wrong) return { ok: false, ...wrong }
    const check = run.check()
    if (!check.valid) return { ok: false, message: `${summaryOf(check.error)}, in ${quote(source)}` }
    const steps = new Set(found.reads.filter((r) => r.root === 'steps').map((r) => String(r.path[1])))
    const expression = {
      source,
      type: check.type ?? 'dyn',
      reads: found.reads,
      steps: [...steps],
      run,
      short: found.short,
    }
    return { ok: true, expression }
  } catch (error) {
    return { ok: false, message: `${summaryOf(error)}, in ${quote(source)}` }
  }
}

/** The paths that an expression reads, or null when it is not valid. */
export function pathsOf(source: string): ReadPath[] | null {
  const compiled = compileExpression(source)
  return compiled.ok ? compiled.expression.reads : null
}

/** The value of the expression as CEL gives it. Throws `expression.unresolved`, naming expression, path and what is there. */
export function evaluateExpression(expression: Expression, scope: Scope): unknown {
  // Named one by one: a variable without a value is then missing, not undefined.
  const variables = {
    inputs: scope.inputs,
    steps: scope.steps,
    run: scope.run,
    ...(scope.item === undefined ? {} : { item: scope.item }),
    ...(scope.index === undefined ? {} : { index: scope.index }),
    ...(scope.matrix === undefined ? {} : { matrix: scope.matrix }),
    ...(scope.turn === undefined ? {} : { turn: scope.turn }),
    ...(scope.event === undefined ? {} : { event: scope.event }),
  }
  try {
    const value: unknown = expression.short
      ? expression.run(variables)
      : within(LIMITS.expressionMs, (): unknown => expression.run(variables))
    return value
  } catch (error) {
    throw unresolved(expression, variables, error)
  }
}

function unresolved(expression: Expression, variables: Record<string, unknown>, error: unknown): Failure {
  const { source } = expression
  if (error instanceof TookTooLong)
    return new Failure(
      'expression.unresolved',
      `evaluating ${quote(source)} took longer than ${LIMITS.expressionMs} ms`,
      {
        evidence: { expression: source, limitMs: LIMITS.expressionMs },
        remediation: 'Make the expression simpler, or compute the value in a step.',
      },
    )
  const reason = summaryOf(error)
  if (error instanceof EvaluationError && /^(no_such_key|index_out_of_bounds|unknown_variable)$/.test(error.code)) {
    const gap = expression.reads.map((read) => firstGap(read.path, variables)).find((found) => found !== null)
    if (gap)
      return new Failure(
        'expression.unresolved',
        `evaluating ${quote(source)}: ${gap.path} has no value; ${gap.there}`,
        {
          evidence: {
            expression: source,
            path: gap.path,
            available: gap.available,
            ...(gap.near ? { nearest: gap.near } : {}),
          },
        },
      )
  }
  return new Failure('expression.unresolved', `evaluating ${quote(source)}: ${reason}`, {
    evidence: { expression: source, path: expression.reads[0] ? formatPath(expression.reads[0].path) : source, reason },
    remediation: 'Correct the expression, or give it values of the types that it works on.',
  })
}

interface Gap {
  path: string
  there: string
  available: string[]
  near: string | null
}

/** Where `path` stops having a value, and what is there instead. */
function firstGap(path: Path, variables: Record<string, unknown>): Gap | null {
  let value: unknown = variables
  for (const [depth, part] of path.entries()) {
    const here = depth === 0 ? 'the scope' : formatPath(path.slice(0, depth))
    const gap = formatPath(path.slice(0, depth + 1))
    if (Array.isArray(value)) {
      if (typeof part !== 'number' || part < 0 || part >= value.length)
        return { path: gap, there: `${here} is a list of ${value.length}`, available: [], near: null }
      value = value[part]
    } else if (typeof value === 'object' && value !== null) {
      if (!Object.hasOwn(value, part)) {
        const available = Object.keys(value).slice(0, 20)
        const near = nearest(String(part), Object.keys(value))
        const there = available.length === 0 ? `${here} is empty` : `${here} has ${available.join(', ')}`
        return { path: gap, there, available, near }
      }
      value = (value as Record<string, unknown>)[part] // an object with its own key of this name, as just seen
    } else {
      return {
        path: gap,
        there: `${here} is ${value === null ? 'null' : `a ${typeof value}`}`,
        available: [],
        near: null,
      }
    }
  }
  return null
}

/** Walks the syntax tree; its depth is bounded by the parser. */
function readsOf(top: ASTNode): {
  reads: ReadPath[]
  problems: { message: string; nearest?: string }[]
  short: boolean
} {
  const reads: ReadPath[] = []
  const problems: { message: string; nearest?: string }[] = []
  const source = top.input
  let short = source.length <= 512

  function addRead(path: Path): void {
    const [root, first, second] = path
    if (!isRoot(root)) {
      const isHyphened = source.includes(`-${String(root)}`)
      const near = isHyphened ? null : nearest(String(root), ROOTS)
      const hint = isHyphened ? '; a name with a hyphen is written in brackets, such as steps["my-step"]' : ''
      const message = `${String(root)} is unknown here; expressions read ${ROOTS.join(', ')}${hint}`
      problems.push({ message, ...(near ? { nearest: near } : {}) })
    } else if (root === 'steps' && typeof first !== 'string') {
      problems.push({ message: 'steps is read without the name of a step; write steps.<name>.output' })
    } else if (root === 'steps' && second !== undefined && !STEP_FIELDS.includes(String(second))) {
      const near = nearest(String(second), STEP_FIELDS)
      const message = `steps.${String(first)} has no ${JSON.stringify(second)}; it has output and state`
      problems.push({ message, ...(near ? { nearest: near } : {}) })
    } else if (first !== undefined && FIELDS_OF[root]?.includes(String(first)) === false) {
      const fields = FIELDS_OF[root] ?? []
      const near = nearest(String(first), fields)
      problems.push({
        message: `${root} has no ${JSON.stringify(first)}; it has ${fields.join(', ')}`,
        ...(near ? { nearest: near } : {}),
      })
    } else {
      reads.push({ root, path })
    }
  }

  function walk(node: ASTNode, bound: ReadonlySet<string>): void {
    const chain = chainOf(node)
    if (chain) {
      const [name] = chain.path
      const isBound = typeof name === 'string' && (bound.has(name) || (chain.path.length === 1 && TYPE_NAMES.has(name)))
      if (!isBound) addRead(chain.path)
      for (const index of chain.indexes) walk(index, bound)
      return
    }
    switch (node.op) {
      case 'value':
      case 'id':
        return
      case '.':
      case '.?':
        walk(node.args[0], bound)
        return
      case 'call':
        if (node.args[0] !== 'has' && node.args[0] !== 'size') short = false
        // What has() asks for may be absent; what it is asked of may not.
        for (const arg of node.args[1]) walk(node.args[0] === 'has' && arg.op === '.' ? arg.args[0] : arg, bound)
        return
      case 'rcall':
        walkMethod(node.args[0], node.args[1], node.args[2], bound)
        return
      case 'list':
        for (const entry of node.args) walk(entry, bound)
        return
      case 'map':
        for (const [key, value] of node.args) {
          if (key.op === 'value' && key.args === '__proto__')
            problems.push({ message: 'the key __proto__ is not allowed' })
          walk(key, bound)
          walk(value, bound)
        }
        return
      case '!_':
      case '-_':
        walk(node.args, bound)
        return
      case '+':
      case 'in':
        short = false
        for (const arg of node.args) walk(arg, bound)
        return
      default:
        for (const arg of node.args) walk(arg, bound)
    }
  }

  function walkMethod(name: string, receiver: ASTNode, args: ASTNode[], bound: ReadonlySet<string>): void {
    if (name !== 'orValue' && name !== 'size') short = false
    const isSpace = receiver.op === 'id' && FUNCTION_SPACES.has(receiver.args)
    if (!isSpace) walk(receiver, bound)
    const [variable, ...rest] = args
    const binds = isSpace ? name === 'bind' : LOOPS.has(name)
    if (binds && variable?.op === 'id') {
      const inner = new Set([...bound, variable.args])
      for (const [i, arg] of rest.entries()) walk(arg, isSpace && i === 0 ? bound : inner)
    } else {
      for (const arg of args) walk(arg, bound)
    }
  }

  walk(top, new Set())
  return { reads, problems, short }
}

const isRoot = (text: unknown): text is ReadPath['root'] => (ROOTS as readonly unknown[]).includes(text)

/** The members from a variable on, up to the first that is computed; null when the node is no such chain. */
function chainOf(node: ASTNode): { path: Path; indexes: ASTNode[] } | null {
  const parts: (string | number | null)[] = []
  const indexes: ASTNode[] = []
  let at = node
  for (;;) {
    if (at.op === 'id') {
      const path = [at.args, ...parts.toReversed()]
      const computed = path.indexOf(null)
      // A step's name must be written out, so what follows a computed member is not known and not needed.
      const known = computed < 0 ? path : path.slice(0, computed)
      return { path: known.filter((part) => part !== null), indexes }
    }
    if (at.op === '.' || at.op === '.?') {
      parts.push(at.op === '.' ? at.args[1] : null)
      at = at.args[0]
    } else if (at.op === '[]' || at.op === '[?]') {
      const key = at.args[1]
      const literal: unknown = key.op === 'value' ? key.args : null
      if (typeof literal === 'string') parts.push(literal)
      else if (typeof literal === 'bigint') parts.push(Number(literal))
      else {
        parts.push(null)
        indexes.push(key)
      }
      at = at.args[0]
    } else {
      return null
    }
  }
}

/** JSON numbers are doubles in CEL; beside an integer literal they are meant as the same kind of number. */
function createEnvironment(): Environment {
  const created = new Environment({
    homogeneousAggregateLiterals: false,
    enableOptionalTypes: true,
    limits: { maxAstNodes: 4_096, maxDepth: 100 },
  })
  for (const root of ROOTS) created.registerVariable(root, 'dyn')
  const operators: Record<string, (a: number, b: number) => number> = {
    '+': (a, b) => a + b,
    '-': (a, b) => a - b,
    '*': (a, b) => a * b,
    '/': (a, b) => a / b,
    '%': (a, b) => a % b,
  }
  for (const [symbol, compute] of Object.entries(operators)) {
    const handler = (a: number | bigint, b: number | bigint): number => compute(Number(a), Number(b))
    created.registerOperator(`double ${symbol} int`, handler)
    created.registerOperator(`int ${symbol} double: double`, handler)
  }
  created.registerOperator('double % double', (a: number, b: number) => a % b)
  return created
}

/** The first line of an error of the CEL library, without its drawing of the source. */
function summaryOf(error: unknown): string {
  const isOwn = typeof error === 'object' && error !== null && 'summary' in error && typeof error.summary === 'string'
  const summary = isOwn
    ? String(error.summary)
    : error instanceof Error
      ? (error.message.split('\n')[0] ?? '')
      : String(error)
  if (summary !== 'has() invalid argument') return summary
  return 'has() takes names joined by dots; beside brackets write steps["my-step"].?output.hasValue()'
}

export const quote = (source: string): string =>
  `\${{ ${source.length > 120 ? `${source.slice(0, 120)}…` : source.trim()} }}`
