import { spanIdOf, type Tracer } from '../base/trace.ts'

export type Sampler = Pick<Tracer, 'samplesRoot' | 'samplesChild'>

export const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const
export type SamplerName = (typeof SAMPLERS)[number]

/** As OTEL_TRACES_SAMPLER has them. The same trace gets the same answer everywhere; `ratio` counts for the two that are called so. */
export function createSampler(name: SamplerName, ratio: number): Sampler {
  const byRatio = (traceId: string) => Number.parseInt(spanIdOf(traceId).slice(0, 8), 16) / 2 ** 32 < ratio
  const root = name.endsWith('always_on') ? () => true : name.endsWith('always_off') ? () => false : byRatio
  const isParentBased = name.startsWith('parentbased_')
  return {
    samplesRoot: root,
    samplesChild: (parent) => (isParentBased ? parent.sampled : root(parent.traceId)),
  }
}
