import { formatDuration, type JsonObject } from '../../base/index.ts'
import type { Client } from '../../client/client.ts'
import { DEFAULT_NAMESPACE } from '../../domain/kinds/envelope.ts'
import {
  addressOf,
  isLocalEndpoint,
  type ModelEndpointSpec,
  modelEndpointSpecSchema,
  secretsOfEndpoint,
} from '../../domain/kinds/model-endpoint.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { ModelEvent, ModelResult } from '../../domain/model-call.ts'
import type { AskModelRequest } from '../../contract/api-types.ts'
import type { CliDeps } from '../deps.ts'
import { readGivenText } from '../inputs.ts'
import type { Output } from '../output.ts'
import { printable, printableLine, span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface ModelFlags extends ServerFlags {
  namespace?: string
}

export interface ListModelFlags extends ModelFlags {
  allNamespaces?: boolean
}

export interface AskFlags extends ModelFlags {
  system?: string
  maxTokens?: string
  temperature?: string
  /** False with --no-fallbacks. */
  fallbacks: boolean
}

interface ListedModel {
  namespace: string
  name: string
  provider: string
  model: string
  address: string | null
  local: boolean
  /** `found` or `missing`; null: it needs none. */
  key: 'found' | 'missing' | null
  fallbacks: string[]
  prices: string | null
}

/** `orrery models list`. */
export async function listModels(deps: CliDeps, output: Output, flags: ListModelFlags): Promise<number> {
  if (flags.allNamespaces && flags.namespace !== undefined)
    throw usageFailure('--all-namespaces cannot be used together with --namespace', 'Leave one of them out.')
  const client = await connect(deps, flags)
  const models = await allModels(client, flags)
  if (output.isData) {
    output.printData({ models })
    return 0
  }
  if (models.length === 0 && output.format !== 'name') {
    output.remark('No model endpoints. Declare one: orrery apply -f FILE (see docs/guides/models.md)')
    return 0
  }
  const columns = [
    ...(flags.allNamespaces ? [{ title: 'NAMESPACE' }] : []),
    { title: 'NAME', isName: true },
    ...['PROVIDER', 'MODEL', 'LOCAL', 'KEY', 'FALLBACKS'].map((title) => ({ title })),
    ...['ADDRESS', 'PRICES'].map((title) => ({ title, wide: true })),
  ]
  const rows = models.map((m) => [
    ...(flags.allNamespaces ? [{ text: m.namespace }] : []),
    { text: m.name },
    { text: m.provider },
    { text: printableLine(m.model) },
    { text: m.local ? 'yes' : '-' },
    { text: m.key ?? '-', ...(m.key === 'missing' ? { style: 'bad' as const } : {}) },
    { text: m.fallbacks.join(',') || '-' },
    { text: m.address ?? '-' },
    { text: m.prices ?? '-' },
  ])
  output.printTable(columns, rows)
  return 0
}

async function allModels(client: Client, flags: ListModelFlags): Promise<ListedModel[]> {
  const models: ListedModel[] = []
  for (let cursor: string | undefined; ;) {
    const page = await client.resources.list('ModelEndpoint', {
      ...(flags.allNamespaces ? {} : { namespace: flags.namespace ?? DEFAULT_NAMESPACE }),
      limit: LIMITS.pageMax,
      ...(cursor === undefined ? {} : { cursor }),
    })
    for (const { metadata, spec } of page.items) models.push(await listed(client, metadata, spec))
    if (page.next === null) return models
    cursor = page.next
  }
}

/** An endpoint of a newer server is shown as far as it is understood. */
async function listed(
  client: Client,
  { namespace, name }: { namespace: string; name: string },
  spec: JsonObject,
): Promise<ListedModel> {
  const read = modelEndpointSpecSchema.safeParse(spec)
  const shown = { namespace, name, provider: String(spec['provider']), model: String(spec['model']) }
  if (!read.success) return { ...shown, address: null, local: false, key: null, fallbacks: [], prices: null }
  const endpoint = read.data
  return {
    ...shown,
    address: addressOf(endpoint),
    local: isLocalEndpoint(endpoint),
    key: await keyOf(client, namespace, endpoint),
    fallbacks: endpoint.fallbacks ?? [],
    prices: endpoint.prices ?? null,
  }
}

/** Whether all that opens the endpoint is somewhere; values are never asked for. */
async function keyOf(client: Client, namespace: string, endpoint: ModelEndpointSpec): Promise<ListedModel['key']> {
  const uses = secretsOfEndpoint(endpoint)
  if (uses.length === 0) return null
  for (const { ref } of uses) {
    const { keys } = await client.getSecret(namespace, ref.secret, { keys: [ref.key] })
    if (!keys.find(({ key }) => key === ref.key)?.places.some(({ found }) => found)) return 'missing'
  }
  return 'found'
}

/** `orrery models ask NAME PROMPT`: the answer as it comes. */
export async function askModel(
  deps: CliDeps,
  output: Output,
  given: { name: string; prompt: string },
  flags: AskFlags,
): Promise<number> {
  const prompt = await readGivenText(deps, given.prompt, 'the prompt')
  const maxTokens = numberOf('--max-tokens', flags.maxTokens)
  const temperature = numberOf('--temperature', flags.temperature)
  const request: AskModelRequest = {
    prompt,
    ...(flags.system === undefined ? {} : { system: await readGivenText(deps, flags.system, 'the instructions') }),
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(flags.fallbacks ? {} : { useFallbacks: false }),
  }
  const client = await connect(deps, flags)
  const events = client.askModel(flags.namespace ?? DEFAULT_NAMESPACE, given.name, request)
  const result = await show(events, deps, output)
  if (output.isData) output.printData(result)
  else output.remark([span(`  ${summaryOf(result)}`, 'dim')], ...warningsOf(result))
  return 0
}

/** What models are tried with: short to ask, short to answer. */
const TEST: AskModelRequest = { prompt: 'Answer with the word ready.', maxTokens: 200, useFallbacks: false }

/** `orrery models test NAME`: one short question to this endpoint alone. */
export async function testModel(deps: CliDeps, output: Output, name: string, flags: ModelFlags): Promise<number> {
  const client = await connect(deps, flags)
  for await (const event of client.askModel(flags.namespace ?? DEFAULT_NAMESPACE, name, TEST)) {
    if (event.type === 'retrying') output.remark(retryText(event))
    if (event.type !== 'finished') continue
    const { result } = event
    if (output.isData) output.printData(result)
    else {
      output.print([span('✓ ', 'good'), span(`${name} answers`), span(`  ${summaryOf(result)}`, 'dim')])
      output.remark(...warningsOf(result))
    }
  }
  return 0
}

/** Prints the text as it comes, unless the result is for programs. */
async function show(events: AsyncIterable<ModelEvent>, deps: CliDeps, output: Output): Promise<ModelResult> {
  const print = (text: string): void => {
    if (!output.isData) deps.stdout.write(printable(text))
  }
  let hasText = false
  for await (const event of events) {
    if (event.type === 'text') {
      hasText = true
      print(event.text)
    } else if (event.type === 'tool-call') print(`${hasText ? '\n' : ''}${event.call.name} ${event.call.text}\n`)
    else if (event.type === 'retrying') {
      if (hasText) print('\n')
      hasText = false
      output.remark(retryText(event))
    } else if (event.type === 'finished') {
      if (hasText && !event.result.text.endsWith('\n')) print('\n')
      return event.result
    }
  }
  throw new Error('the answer ended without a result')
}

function retryText({ endpoint, delayMs, isVoid, failure }: Extract<ModelEvent, { type: 'retrying' }>): string {
  const begins = isVoid ? ' What came before is void: the answer begins anew.' : ''
  const when = delayMs > 0 ? ` in ${formatDuration(delayMs)}` : ''
  return printableLine(`  ${failure.code}: asking ${endpoint}${when}.${begins}`)
}

function summaryOf(result: ModelResult): string {
  const { endpoint, provider, model, usage, cost, firstPartMs, totalMs, finish } = result
  const about = usage.isEstimated ? 'about ' : ''
  const cached = usage.cachedInputTokens > 0 ? ` (${usage.cachedInputTokens} cached)` : ''
  return [
    printableLine(`${endpoint}: ${provider} ${model}`),
    `${Math.round(firstPartMs)} ms to the first part, ${Math.round(totalMs)} ms in all`,
    `${about}${usage.inputTokens}${cached} + ${usage.outputTokens} tokens`,
    ...(cost === null ? [] : [`${cost.amount} ${cost.currency}`]),
    ...(finish === 'length' ? ['cut off at its longest'] : finish === 'content-filter' ? ['cut off by a filter'] : []),
  ].join(', ')
}

const warningsOf = ({ warnings }: ModelResult): string[] => warnings.map((text) => printableLine(`  ${text}`))

function numberOf(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const number = Number(text)
  if (text.trim() === '' || !Number.isFinite(number)) throw usageFailure(`${flag} ${text} is no number`)
  return number
}
