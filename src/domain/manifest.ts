import type { Json, JsonObject } from '../base/json.ts'
import { nameConcurrency } from './concurrency-problem.ts'
import { nearest } from '../base/nearest.ts'
import { failureOfProblems, type Problem } from './failure.ts'
import { nodeOf, turnsOf } from './compile-node.ts'
import { compileGraph, type Graph, type GraphStep } from './graph.ts'
import { importsOf } from './import-env.ts'
import { schemaKey, schemaProblems } from './json-schema.ts'
import { LIMITS } from './limits.ts'
import { formatPath, type Path } from './place.ts'
import { capped, isObject, type Placed, placedProblem, problemsOfIssue, unplaced } from './placed-problem.ts'
import { conflictsOf, knownKeysAt, type WorkflowManifest, workflowSchema } from './schema.ts'
import { beginnersOf } from './rings.ts'
import { type Choice, choicesOf, isChosen, namedInNext, withRoutes } from './routes.ts'
import { compileStepExpressions, waysIn } from './templates-of-step.ts'
import { variableTypes } from './variable-types.ts'
import type { Definition } from './workflow.ts'
import { readYaml } from './yaml.ts'

export type CompiledWorkflow =
  | { ok: true; workflow: WorkflowManifest; definition: Definition }
  | { ok: false; problems: Problem[] }

/** The workflow of a manifest in YAML or JSON. Throws one failure with every problem and its place. */
export function parseManifest(
  text: string,
  from: { file: string },
): { workflow: WorkflowManifest; definition: Definition } {
  const read = readManifest(text, from)
  if (!read.ok) throw failureOfProblems(read.problems, `reading ${from.file}`)
  return { workflow: read.workflow, definition: read.definition }
}

/** Like parseManifest, with the problems as a value. Never throws. */
export function readManifest(text: string, from: { file: string }): CompiledWorkflow {
  const yaml = readYaml(text)
  const compiled = yaml.value === undefined ? null : compileValue(yaml.value)
  // Capped before the places are sought: that costs a walk for each.
  const kept = capped(compiled?.problems ?? [])
  const placed = kept.map((found) => ({ ...unplaced(found), ...yaml.placeOf(found.parts, found.at) }))
  const problems = [...yaml.problems, ...placed]
  if (problems.length === 0 && compiled?.result) return { ok: true, ...compiled.result }
  const sorted = problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0))
  return { ok: false, problems: sorted.map((problem) => ({ ...problem, file: from.file })) }
}

/** The workflow of a body that was parsed already. The same problems, without lines. Never throws. */
export function compileWorkflow(value: unknown): CompiledWorkflow {
  const foreign = foreignIn(value)
  if (foreign) return { ok: false, problems: [foreign] }
  const { result, problems } = compileValue(value as Json) // as foreignIn has just proven
  if (result && problems.length === 0) return { ok: true, ...result }
  return { ok: false, problems: capped(problems).map(unplaced) }
}

/** Everything after the text: schema, names, expressions, graph. The later checks run on whatever is well-formed. */
export function compileValue(value: Json): {
  result: { workflow: WorkflowManifest; definition: Definition } | null
  problems: Placed[]
} {
  const spec = isObject(value) && isObject(value['spec']) ? value['spec'] : {}
  const steps = Array.isArray(spec['steps']) ? spec['steps'] : []
  // Before anything is looked at: checking steps that nobody may run would stop the server for seconds.
  if (steps.length > LIMITS.nodesMax) {
    const message = `the workflow has ${steps.length} steps; the limit is ${LIMITS.nodesMax}`
    return { result: null, problems: [placedProblem('run.too_large', message, ['spec', 'steps'])] }
  }
  const parsed = workflowSchema.safeParse(value, { reportInput: true })
  const isBound = spec['maxTurns'] !== undefined
  const { graph, problems: graphProblems } = checkGraph(steps, { inputs: spec['inputs'], isBound })
  const problems = [
    ...(parsed.success
      ? []
      : parsed.error.issues.flatMap((issue) => problemsOfIssue(issue, knownKeysAt)).map(nameConcurrency)),
    ...checkKinds(steps),
    ...checkModules(spec, steps),
    ...checkSchemas(spec, steps),
    ...graphProblems,
  ]
  if (!parsed.success || problems.length > 0) return { result: null, problems }
  const definition = definitionOf(parsed.data, graph)
  const excess = importEnv(definition)
  if (excess.length > 0) return { result: null, problems: excess }
  return { result: { workflow: parsed.data, definition }, problems }
}

/** Tells each command whose variables it is given. */
function importEnv({ nodes }: Definition): Placed[] {
  const exports = (i: number): boolean => {
    const node = nodes[i]
    return node?.kind === 'command' && node.exportEnv === true
  }
  if (!nodes.some((_, i) => exports(i))) return []
  const imports = importsOf(
    nodes.map((node) => node.needs),
    exports,
  )
  return nodes.flatMap((node, i) => {
    if (node.kind !== 'command') return []
    const from = imports[i]
    if (from && from.length > 0) node.importEnv = from
    if (from) return []
    const message = `more than ${LIMITS.importStepsMax} steps before it hand on variables with exportEnv`
    return [placedProblem('manifest.invalid', message, ['spec', 'steps', i, 'needs'])]
  })
}

function checkKinds(steps: Json[]): Placed[] {
  return steps.flatMap((step, i) => {
    const path = ['spec', 'steps', i]
    const conflicts = isObject(step) ? conflictsOf(step) : []
    return conflicts.map(({ key, message }) =>
      placedProblem('manifest.invalid', message, key === null ? path : [...path, key]),
    )
  })
}

function checkModules(spec: JsonObject, steps: Json[]): Placed[] {
  const modules = spec['modules']
  if (!isObject(modules)) return []
  const names = Object.keys(modules)
  return steps.flatMap((step, i) => {
    const target = isObject(step) ? step['function'] : undefined
    if (typeof target !== 'string' || !target.includes('.')) return []
    const name = target.split('.')[0] ?? ''
    if (Object.hasOwn(modules, name)) return []
    const message = `the function is of module ${JSON.stringify(name)}, which is not in spec.modules`
    return [
      placedProblem('workflow.reference_unknown', message, ['spec', 'steps', i, 'function'], () =>
        nearest(name, names),
      ),
    ]
  })
}

function checkSchemas(spec: JsonObject, steps: Json[]): Placed[] {
  const problems: Placed[] = []
  const seen = new Set<string>()

  function check(schema: Json | undefined, path: Path): void {
    if (!isObject(schema)) return
    const key = schemaKey(schema)
    if (seen.has(key)) return
    seen.add(key)
    if (seen.size > LIMITS.schemasMax) {
      if (seen.size === LIMITS.schemasMax + 1)
        problems.push(
          placedProblem('manifest.invalid', `there are more than ${LIMITS.schemasMax} different schemas`, path),
        )
      return
    }
    for (const found of schemaProblems(schema))
      problems.push(
        placedProblem('manifest.invalid', `is no valid JSON Schema: ${found.message}`, [...path, ...found.path]),
      )
  }

  const inputs = spec['inputs']
  check(inputs, ['spec', 'inputs'])
  if (isObject(inputs) && inputs['type'] !== undefined && inputs['type'] !== 'object')
    problems.push(
      placedProblem('manifest.invalid', 'must be object: the inputs of a run have names', ['spec', 'inputs', 'type']),
    )
  for (const [i, step] of steps.entries()) {
    if (!isObject(step)) continue
    check(step['outputSchema'], ['spec', 'steps', i, 'outputSchema'])
    const approval = step['approval']
    if (isObject(approval)) check(approval['inputs'], ['spec', 'steps', i, 'approval', 'inputs'])
  }
  return problems
}

/** The graph of the steps that have a name, with what their expressions read. */
function checkGraph(
  steps: Json[],
  { inputs, isBound }: { inputs: Json | undefined; isBound: boolean },
): { graph: Graph; problems: Placed[] } {
  const parts = new Map<string, Path>()
  const remember = (path: Path): Path => {
    parts.set(formatPath(path), path)
    return path
  }
  const problems: Problem[] = []
  const graphSteps: GraphStep[] = []
  const written: JsonObject[] = []
  const nextOf = (step: JsonObject, path: Path) =>
    waysIn(step['next'], [...path, 'next']).flatMap(({ way, at }) => {
      const name = isObject(way) ? way['step'] : way
      return typeof name === 'string' ? [{ name, path: remember(isObject(way) ? [...at, 'step'] : at) }] : []
    })
  const named = new Set(steps.flatMap((step) => (isObject(step) ? nextOf(step, []).map((way) => way.name) : [])))
  const takesTurns = (step: JsonObject) => step['next'] !== undefined || named.has(String(step['name']))
  const types = variableTypes(inputs, steps, takesTurns)
  const chosenBy = routesOf(steps)
  for (const [i, step] of steps.entries()) {
    if (!isObject(step) || typeof step['name'] !== 'string') continue
    const path = remember(['spec', 'steps', i])
    remember([...path, 'name'])
    const listed = Array.isArray(step['needs']) ? step['needs'] : []
    const needs = listed.flatMap((name, j) =>
      typeof name === 'string' ? [{ name, path: remember([...path, 'needs', j]) }] : [],
    )
    const expressions =
      steps.length > LIMITS.nodesMax
        ? { reads: [], problems: [] }
        : compileStepExpressions(step, path, { types, takesTurns: takesTurns(step) })
    const routes = chosenBy.get(step['name']) ?? []
    const reads = [...expressions.reads, ...routes.map(({ route, at }) => ({ name: route, path: at }))]
    for (const read of reads) remember(read.path)
    const own = typeof step['if'] === 'string' ? step['if'].length : 0
    const added = routes.reduce((sum, { route }) => sum + isChosen(route, String(step['name'])).length + 8, 0)
    if (routes.length > 0 && own + added > LIMITS.expressionChars)
      problems.push({
        code: 'expression.invalid',
        message: `is longer than ${LIMITS.expressionChars} characters together with what routes add to it`,
        path: formatPath(remember([...path, 'if'])),
      })
    // One by one: a spread of arguments has a limit, and a step may hold more problems than that.
    for (const found of expressions.problems) problems.push(found)
    written.push(step)
    graphSteps.push({
      name: step['name'],
      needs,
      reads,
      path,
      next: nextOf(step, path),
      isBound: isBound || step['maxTurns'] !== undefined,
    })
  }
  const names = new Set(graphSteps.map((step) => step.name))
  for (const { name, at } of chosenOfAll(steps))
    if (!names.has(name))
      problems.push({
        code: 'workflow.reference_unknown',
        message: `the route leads to ${JSON.stringify(name)}, but there is no such step`,
        path: formatPath(remember(at)),
        ...nearestOf(name, [...names]),
      })
  const graph = compileGraph(graphSteps)
  const conflicts = ringConflicts(graph, graphSteps, written)
  for (const { path } of conflicts) remember(path)
  const inRings = conflicts.map(({ message, path }) => ({
    code: 'manifest.invalid' as const,
    message,
    path: formatPath(path),
  }))
  if (isBound && graph.rings.size === 0 && problems.length + graph.problems.length === 0)
    inRings.push({
      code: 'manifest.invalid',
      message: 'is for workflows in which steps name others with next',
      path: formatPath(remember(['spec', 'maxTurns'])),
    })
  return {
    graph,
    problems: [...problems, ...graph.problems, ...inRings].map((p) => ({
      ...p,
      parts: parts.get(p.path) ?? partsOf(p.path),
      at: 'value',
    })),
  }
}

const nearestOf = (name: string, names: readonly string[]): { nearest?: string } => {
  const near = nearest(name, names)
  return near === null ? {} : { nearest: near }
}

const chosenOfAll = (steps: readonly Json[]): Choice[] =>
  steps.flatMap((step, i) => (isObject(step) ? choicesOf(step, ['spec', 'steps', i]) : []))

/** Which routes choose each step; those that name it in their `next` decide about the way alone, and read themselves for that. */
function routesOf(steps: readonly Json[]): Map<string, { route: string; at: Path }[]> {
  const found = new Map<string, { route: string; at: Path }[]>()
  for (const [i, step] of steps.entries()) {
    if (!isObject(step) || typeof step['name'] !== 'string') continue
    const route = step['name']
    const onWay = new Set(namedInNext(step))
    for (const { name, at } of choicesOf(step, ['spec', 'steps', i])) {
      const reader = onWay.has(name) ? route : name
      found.set(reader, [...(found.get(reader) ?? []), { route, at }])
    }
  }
  return found
}

/** What a step that `next` joins to others cannot have, and what is for such steps alone. */
function ringConflicts(
  { rings, needs }: Graph,
  graphSteps: readonly GraphStep[],
  written: readonly JsonObject[],
): { message: string; path: Path }[] {
  return graphSteps.flatMap(({ path, needs: named }, i) => {
    const step = written[i] ?? {}
    if (!rings.has(i)) {
      if (step['next'] === undefined && step['maxTurns'] !== undefined)
        return [{ message: 'is for steps that next joins to others only', path: [...path, 'maxTurns'] }]
      const ring = (needs[i] ?? []).find((need) => rings.has(need))
      if (step['rest'] !== 'cancel' || ring === undefined) return []
      const at = named.find((need) => need.name === graphSteps[ring]?.name)?.path ?? path
      return [{ message: 'cannot be canceled by rest: next joins it to others, and they end together', path: at }]
    }
    const onWay = new Set(namedInNext(step))
    const offWay = choicesOf(step, path).filter(
      ({ name }) => !onWay.has(name) && (rings.get(i) ?? []).some((other) => graphSteps[other]?.name === name),
    )
    const strays = offWay.map(({ name, at }) => ({
      message: `${name} goes round with it: name it in next too`,
      path: at,
    }))
    const kept = (['forEach', 'matrix', 'loop', 'exportEnv'] as const)
      .filter((key) => step[key] !== undefined && step[key] !== false)
      .map((key) => ({
        message: 'cannot be in a step that next joins to others: it takes its turns one by one',
        path: [...path, key],
      }))
    return [...strays, ...kept]
  })
}

/** The parts of a path below the steps; deeper ones are found again from their text. */
function partsOf(path: string): Path {
  return [...path.matchAll(/\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]|([^.[\]]+)/g)].map(([, index, quoted, name]) =>
    index !== undefined ? Number(index) : quoted !== undefined ? String(JSON.parse(`"${quoted}"`)) : (name ?? ''),
  )
}

function definitionOf(workflow: WorkflowManifest, graph: Graph): Definition {
  const { metadata, spec } = workflow
  const numbers = new Map(spec.steps.map((step, i) => [step.name, i]))
  // Names were checked with the graph.
  const numberOf = (name: string): number => numbers.get(name) ?? 0
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    labels: metadata.labels,
    inputs: spec.inputs ?? null,
    failFast: spec.failFast,
    timeoutMs: spec.timeout ?? null,
    modules: spec.modules ?? {},
    nodes: withRoutes(spec.steps).map((step, i) => {
      const ring = graph.rings.get(i)
      const turns = ring && {
        targets: graph.next[i] ?? [],
        max: spec.maxTurns,
        begins: beginnersOf(ring, graph.next).includes(i),
      }
      return nodeOf(step, {
        needs: graph.needs[i] ?? [],
        refs: graph.refs[i] ?? [],
        numberOf,
        turns: turns ? turnsOf(step, turns) : null,
      })
    }),
  }
}

/** The first thing in a value that JSON cannot have or a manifest may not; null when there is none. */
function foreignIn(root: unknown): Problem | null {
  const work: { value: unknown; path: Path }[] = [{ value: root, path: [] }]
  let left = LIMITS.manifestBytes
  for (let next = work.pop(); next; next = work.pop()) {
    const { value, path } = next
    if (--left < 0) return { code: 'manifest.too_large', message: 'the workflow has too many values', path: '' }
    if (path.length > LIMITS.nestingMax) return problemAt(`nested deeper than ${LIMITS.nestingMax}`, path.slice(0, 8))
    if (value === null || typeof value === 'string' || typeof value === 'boolean') continue
    if (typeof value === 'number' && Number.isFinite(value)) continue
    if (typeof value !== 'object') return problemAt('this is no JSON value', path)
    if (Array.isArray(value)) {
      for (const [i, entry] of value.entries()) work.push({ value: entry, path: [...path, i] })
      continue
    }
    const prototype: unknown = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) return problemAt('this is no JSON value', path)
    for (const [key, entry] of Object.entries(value)) {
      if (key === '__proto__') return problemAt('the key __proto__ is not allowed', [...path, key])
      work.push({ value: entry, path: [...path, key] })
    }
  }
  return null
}

const problemAt = (message: string, path: Path): Problem => ({
  code: 'manifest.invalid',
  message,
  path: formatPath(path),
})
