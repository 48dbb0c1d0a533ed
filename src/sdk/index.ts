export {
  type FunctionContext,
  type FunctionDefinition,
  defineFunction,
  type StandardSchema,
} from './define-function.ts'
